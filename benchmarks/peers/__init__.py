"""Ways of others to teach an adapter, beside those of `lorajax.distillation`; see `__main__`."""
