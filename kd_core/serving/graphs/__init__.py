"""Running the graphs: tokens, batches, pools of waiting texts, threads, the executor."""
