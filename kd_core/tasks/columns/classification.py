"""Classification: a label is one text."""

LISTED = False
"""Whether a label is a list of texts, which a text cell holds with a separator between them."""
ORDERED = False
"""Whether the order of the list counts, and what is repeated in it."""
