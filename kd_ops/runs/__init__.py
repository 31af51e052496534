"""A run's folder, its results and progress events, and what its stages left in store and cache."""
