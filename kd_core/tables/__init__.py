"""Tables in files: one reader and one writer, for training data and for `kd predict`. Needs no torch."""
