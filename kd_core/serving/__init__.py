"""Serving: the exported graphs answer texts with numpy, onnxruntime and tokenizers; no torch, transformers or onnx."""
