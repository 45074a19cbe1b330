"""A run: what it is asked to do, its files, its stages."""

from lorajax.experiment.config import EXPERIMENTS, RECIPE, STAGES, Experiment

__all__ = ['EXPERIMENTS', 'RECIPE', 'STAGES', 'Experiment']
