"""Quality of the models on the test rows: metrics, slices, details, contamination."""
