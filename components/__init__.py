"""One module for each stage: reads the declared inputs, calls kd_core, writes the declared outputs.

`look` is no stage: `kd init` starts it.
"""
