"""The documents of a model's folder: manifest, inference record, profile, uncertainties."""
