"""Operations around the pipeline: the DVC bridge, resolve, tracking, gate, lineage and the `kd` command line."""
