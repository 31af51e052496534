"""Serving: the exported graphs answer texts with numpy, onnxruntime and tokenizers, without torch or transformers."""
