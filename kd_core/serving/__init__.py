"""Serving: the exported graphs answer texts with numpy, onnxruntime and tokenizers; neither torch nor transformers."""
