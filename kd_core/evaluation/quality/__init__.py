"""How good the models are on the test rows: metrics, slices, details, contamination."""
