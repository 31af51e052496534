"""One module a stage: reads the declared inputs, calls kd_core, writes the declared outputs."""
