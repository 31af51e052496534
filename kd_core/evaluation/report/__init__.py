"""The report: pictures, tables, the model card."""
