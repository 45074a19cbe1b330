"""Text worlds: small decoders pretrained on rows of real data, and small tasks over such rows."""
