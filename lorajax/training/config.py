"""The recipe of one adapter."""

import dataclasses

from lorajax.errors import ArgumentError

SCHEDULES = ('cosine', 'linear', 'constant')


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Recipe of one adapter.

    In brackets the defaults of `transformers.TrainingArguments` ("Trainer") and of
    `peft.LoraConfig` ("PEFT"). Where ours differ they are those of the experiment that this
    library was written for.

    Attributes:
      num_epochs: passes over the training examples (Trainer: the same).
      batch_size: examples per step and adapter (Trainer: the same, for each device).
      learning_rate: peak of the schedule (Trainer: 5e-05, meant for all weights of a model).
      schedule: 'cosine', 'linear' or 'constant' after the warm-up (Trainer: the same).
      warmup_ratio: share of the steps over which the rate rises linearly (Trainer: 0). Of N
        steps, step t counted from 0 has the rate of the place (t + 1) / (N + 1) then, where
        Trainer has that of t / N, whose first step does nothing.
      weight_decay: decoupled, of AdamW (Trainer: the same).
      beta1: of AdamW (Trainer: the same).
      beta2: of AdamW (Trainer: the same).
      epsilon: of AdamW (Trainer: the same).
      max_grad_norm: global norm to which gradients are clipped (Trainer: the same).
      rank: R of the adapters (PEFT: 8).
      alpha: the update is scaled by alpha / rank (PEFT: 8); it acts on the steps that `b` takes.
        There is no dropout, which is also PEFT's default.
      targets: adapted projections (PEFT: q_proj and v_proj of these families).
      seed: of the data order and of the initial `a` (Trainer: 42).
      separate_init: whether every adapter draws its own initial `a` instead of sharing one.
      repeat: number of a repeated training; another one sees the data in another order, and
        with `separate_init` starts from another `a`.
      data_order: name from which the order of the data follows, so that recipes can be compared
        on the same batches; the task's own if empty.
      checkpoint_every: steps between two saved states.

    Raises:
      ArgumentError: for a schedule of another name, or a number out of its range.
    """

    num_epochs: float = 3.0
    batch_size: int = 8
    learning_rate: float = 2e-4
    schedule: str = 'linear'
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ()
    seed: int = 0
    separate_init: bool = False
    repeat: int = 0
    data_order: str = ''
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ArgumentError(
                'schedule', self.schedule, f'expected one of {", ".join(SCHEDULES)}'
            )
        for name in ('batch_size', 'checkpoint_every'):
            if getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), 'expected at least 1')
        if not 0 <= self.warmup_ratio <= 1:
            raise ArgumentError('warmup_ratio', self.warmup_ratio, 'expected 0 to 1')

    @property
    def scale(self) -> float:
        """Factor between `a b` of the state and the change of the weight."""
        return self.alpha / self.rank
