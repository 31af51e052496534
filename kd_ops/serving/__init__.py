"""A registered version answers: `kd predict`, `kd calibrate` and `kd drift`."""
