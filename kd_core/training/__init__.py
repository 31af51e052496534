"""How anything is trained here: one loop, its optimizer, its checkpoints, and rows as its batches."""
