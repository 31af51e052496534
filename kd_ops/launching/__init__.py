"""`kd run` and `kd repro`: a run from start to end."""
