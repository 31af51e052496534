"""MLflow's registry as its client sees it, and the weights of registered versions."""
