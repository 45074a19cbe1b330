"""LoRA training: many adapters on one frozen base in one compiled step."""

from lorajax.training.loop import TrainConfig, train_adapters

__all__ = ['TrainConfig', 'train_adapters']
