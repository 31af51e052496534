"""The generated parts of docs/: configuration from kd_core.config, pictures from dvc.yaml and the import graph."""
