"""The graphs at work: tokens, batches, pools of waiting texts, threads, the executor."""
