"""Statistics: intervals, paired comparisons and drift; numpy only."""
