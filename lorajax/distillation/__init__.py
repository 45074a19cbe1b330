"""A target adapter from answers: of the source model with its adapter, or a few of the user's."""

from lorajax.distillation.distill import distill
from lorajax.distillation.reweight import reweight

__all__ = ['distill', 'reweight']
