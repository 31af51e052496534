"""From a user's own file to a recipe that runs: `kd init`."""
