"""The stages of dvc.yaml: their graph, keys, code, workspace and local inputs."""
