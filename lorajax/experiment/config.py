"""`Experiment`: everything that one run is asked to do, and what of it is recorded."""

import dataclasses
import pathlib
from typing import Any

from lorajax import toy
from lorajax.errors import InputError
from lorajax.experiment.workdir import Workdir
from lorajax.lora import TARGETS
from lorajax.toy import language
from lorajax.training.loop import TrainConfig

STAGES = ('prepare', 'train', 'map', 'evaluate', 'report')

EXPERIMENTS = ('1', '2', '3')

# Flags that say where, how fast and how far, not what; a run may be continued with others.
_FREE = (
    'workdir', 'stages', 'experiments', 'mesh', 'adapters_per_step', 'eval_batch_size',
    'checkpoint_every',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run; the defaults are the toy world. Field names are the flags' names.

    Attributes:
      workdir: where all files of the run go.
      stages: which of `STAGES` to do if they are not done yet.
      source_model, target_model: a directory in HF format, a hub id ('owner/name' or
        'owner/name@revision'), or the toy's 'toy-source' and 'toy-target'.
      data_dir: data sets as JSON lines; empty for the hub.
      anchors, heldouts: task names.
      methods: to fit and evaluate: names of `lorajax.mapping.METHODS`, and 'distilled', which
        trains on what the source model answers (see `lorajax.distillation`).
      distill_from: where 'distilled' starts: a method of `METHODS`, or 'fresh'.
      activation_places: places of shared text for the methods that look at activations.
      diagnostics: train the held-outs' target adapters once more, and evaluate placebo and
        span oracle, to tell what bounds a translation.
      experiments: some of `EXPERIMENTS`: 1 the main table (always done), 2 anchor count x
        top-k, 3 anchors of one domain; see `lorajax.evaluation.ablations`.
      anchor_counts, anchor_draws, top_k_grid, scaling_methods: of experiment 2.
      transfer_methods: of experiment 3.
      study_items: items per held-out in experiments 2 and 3, the first of experiment 1's.
      protocol: 'direct' or 'cot', how answers are asked for.
      top_k: anchors of the methods named 'topk_...' without a number.
      lora_rank, lora_alpha, lora_targets: of every trained adapter.
      output_rank: of predicted adapters; 0 for the anchors' rank.
      num_epochs, train_per_task, batch_size, learning_rate, schedule, warmup_ratio,
        weight_decay, max_grad_norm: recipe of every adapter; rates are peaks.
      eval_per_task: items per held-out; fewer where the data has fewer.
      eval_batch_size: prompts decoded together, for every adapter at once.
      max_len: tokens of a prompt and its answer; training cuts answers, evaluation cuts the
        beginning of prompts.
      max_new_tokens: tokens decoded per item; 0 for the longest answer of the task's data.
      adapters_per_step: adapters trained or evaluated together; 0 for all.
      param_dtype, dtype: of base weights in memory and of the computation.
      remat: what the backward pass keeps, 'none', 'dots' or 'full'.
      mesh: devices on the data, fsdp and tensor axes; -1 for the rest.
      seed: of data choice, data order and initialisation.
      separate_init: every adapter starts from factors of its own, not from shared ones.
      checkpoint_every: training steps between two saved states.
      allow_code_execution: run model-written programs to score them.
    """

    workdir: str = 'runs/toy'
    stages: tuple[str, ...] = STAGES
    source_model: str = 'toy-source'
    target_model: str = 'toy-target'
    data_dir: str = ''
    anchors: tuple[str, ...] = language.ANCHORS
    heldouts: tuple[str, ...] = language.HELDOUTS
    methods: tuple[str, ...] = (
        'mean', 'global_ridge', 'pertensor_ridge', 'topk8_global_ridge', 'topk8_pertensor_ridge',
        'pertensor_mlp', 'delta_ridge', 'matched_ridge', 'matched_scaled', 'distilled',
    )  # fmt: skip
    distill_from: str = 'matched_ridge'
    activation_places: int = 1024
    diagnostics: bool = True
    experiments: tuple[str, ...] = EXPERIMENTS
    anchor_counts: tuple[int, ...] = (4, 8, 12, 16)
    anchor_draws: int = 3
    top_k_grid: tuple[int, ...] = (1, 2, 4, 8)
    scaling_methods: tuple[str, ...] = ('global_ridge',)
    transfer_methods: tuple[str, ...] = ('mean', 'global_ridge', 'topk8_global_ridge')
    study_items: int = 100
    protocol: str = 'direct'
    top_k: int = 8
    lora_rank: int = 4
    lora_alpha: float = 8.0
    lora_targets: tuple[str, ...] = TARGETS
    output_rank: int = 0
    num_epochs: float = 4.0
    train_per_task: int = 800
    batch_size: int = 32
    learning_rate: float = 2e-3
    schedule: str = 'cosine'
    warmup_ratio: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    eval_per_task: int = 300
    eval_batch_size: int = 100
    max_len: int = 32
    max_new_tokens: int = 0
    adapters_per_step: int = 0
    param_dtype: str = 'float32'
    dtype: str = 'float32'
    remat: str = 'none'
    mesh: tuple[int, int, int] = (1, -1, 1)
    seed: int = 0
    separate_init: bool = False
    checkpoint_every: int = 50
    allow_code_execution: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        """Anchors and held-outs, each once."""
        return tuple(dict.fromkeys((*self.anchors, *self.heldouts)))

    @property
    def files(self) -> Workdir:
        """The files of the run."""
        return Workdir(pathlib.Path(self.workdir))

    @property
    def mapping_methods(self) -> tuple[str, ...]:
        """Methods with `top_k` written into the names that leave it open."""
        return tuple(
            name.replace('topk_', f'topk{self.top_k}_') if name.startswith('topk_') else name
            for name in self.methods
        )

    def model_directory(self, side: str) -> str:
        """Returns directory or hub id of the 'source' or 'target' model."""
        name = self.source_model if side == 'source' else self.target_model
        return str(self.files.model(side)) if name in toy.MODELS else name

    @property
    def train_config(self) -> TrainConfig:
        """The recipe of every adapter."""
        return TrainConfig(
            num_epochs=self.num_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            warmup_ratio=self.warmup_ratio,
            weight_decay=self.weight_decay,
            max_grad_norm=self.max_grad_norm,
            rank=self.lora_rank,
            alpha=self.lora_alpha,
            targets=self.lora_targets,
            seed=self.seed,
            separate_init=self.separate_init,
            checkpoint_every=self.checkpoint_every,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns every field as JSON has it, methods with their `top_k` written in."""
        fields = {**dataclasses.asdict(self), 'methods': self.mapping_methods}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in fields.items()
        }

    def check_same(self, stored: dict[str, Any]) -> None:
        """Refuses to continue a run that was begun with other flags.

        Raises:
          InputError: naming the first flag that differs.
        """
        for name, value in self.to_json().items():
            if name not in _FREE and stored.get(name) != value:
                raise InputError(
                    f'--{name}={_shown(value)}: {self.files.config} was begun with '
                    f'{_shown(stored.get(name))}; give that value or another --workdir'
                )


def _shown(value: Any) -> str:
    """Writes a value as its flag would be written."""
    return ','.join(map(str, value)) if isinstance(value, list) else str(value)
