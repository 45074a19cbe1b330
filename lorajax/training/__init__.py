"""LoRA training: many adapters on one frozen base, resumable at any step."""

from lorajax.training.checkpoint import TrainCheckpoints
from lorajax.training.config import TrainConfig
from lorajax.training.loop import train_adapters
from lorajax.training.metrics import MetricWriter

__all__ = ['MetricWriter', 'TrainCheckpoints', 'TrainConfig', 'train_adapters']
