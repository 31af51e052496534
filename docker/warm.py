"""Imports what stages import, so that the image holds its bytecode: a container with a read-only root writes none.

Bytecode of everything installed would be 130 MB more.
"""

import importlib

MODULES = (
    "accelerate",
    "charset_normalizer",
    "datasets",
    "dvc.repo",
    "dvc_s3",
    "great_expectations",
    "matplotlib.pyplot",
    "mlflow.pyfunc",
    "mlflow.server",
    "nh3",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "rich",
    "s3fs",
    "safetensors.torch",
    "scipy.optimize",
    "scipy.stats",
    "sentencepiece",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "torch.onnx",
    "torch.onnx._internal.exporter._core",
    "transformers.models.bert.modeling_bert",
    "typer",
)

for name in MODULES:
    importlib.import_module(name)
