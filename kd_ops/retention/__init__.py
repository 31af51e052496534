"""Garbage collection: `kd gc` finds and deletes what no kept run needs."""
