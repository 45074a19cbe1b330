"""A run: what it is asked to do, its files, its stages."""

from lorajax.experiment.config import EXPERIMENTS, STAGES, Experiment

__all__ = ['EXPERIMENTS', 'STAGES', 'Experiment']
