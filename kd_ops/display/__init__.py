"""What a person sees of a run: the board, the terminal, the summary."""
