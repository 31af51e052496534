"""What a data set looks like before there is a recipe: its columns, labels, lengths, duplicates, and what is wrong."""
