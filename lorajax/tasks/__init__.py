"""Tasks: the table, rows to examples, the draw, chat formats, batches, scoring."""
