"""Results in words, tables and figures; reads stored files, never a model."""
