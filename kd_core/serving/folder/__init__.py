"""The content of a model's folder: model.json, the files that it names, and the profile of the calibration texts."""
