"""Where things came from: provenance records, and a run laid out as a folder."""
