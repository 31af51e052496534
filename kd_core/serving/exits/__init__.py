"""Early exits: thresholds, their outcomes, the dial, and wishes for speed; numpy only."""
