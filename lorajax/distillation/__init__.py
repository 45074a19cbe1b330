"""A target adapter from answers: of the source model with its adapter, or a few of the user's."""
