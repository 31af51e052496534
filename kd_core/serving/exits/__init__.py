"""Early exits: thresholds, their outcomes, the speed dial, and wishes for speed; numpy only."""
