"""What may go: `kd gc`."""
