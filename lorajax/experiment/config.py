"""`Experiment`: everything that one run is asked to do, each setting written once."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from lorajax import mapping, toy
from lorajax.experiment import options
from lorajax.experiment.options import option
from lorajax.experiment.workdir import Workdir
from lorajax.lora import TARGETS
from lorajax.models import kernels, quantized
from lorajax.models.transformer import REMAT_POLICIES
from lorajax.tasks.task import PROTOCOLS
from lorajax.toy import language
from lorajax.training.config import SCHEDULES, TrainConfig
from lorajax.training.trackers import TRACKERS

STAGES = ('prepare', 'train', 'map', 'evaluate', 'report')
EXPERIMENTS = ('1', '2', '3')
DTYPES = ('float32', 'bfloat16')
FRESH = 'fresh'  # value of `distill_from`

# Settings that say where, how fast and how far, not what; a run may be continued with others.
_FREE = (
    'workdir', 'stages', 'experiments', 'task_files', 'mesh', 'adapters_per_step',
    'eval_batch_size', 'checkpoint_every', 'compilation_cache', 'report_to',
)  # fmt: skip

# Setting -> field of `TrainConfig`.
_RECIPE = {
    'num_epochs': 'num_epochs',
    'batch_size': 'batch_size',
    'learning_rate': 'learning_rate',
    'schedule': 'schedule',
    'warmup_ratio': 'warmup_ratio',
    'weight_decay': 'weight_decay',
    'max_grad_norm': 'max_grad_norm',
    'lora_rank': 'rank',
    'lora_alpha': 'alpha',
    'seed': 'seed',
    'separate_init': 'separate_init',
    'checkpoint_every': 'checkpoint_every',
}

_MODEL = 'directory in HF format, owner/name[@revision] on the hub, or toy-source, toy-target'


@options.documented
@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run; the defaults are the toy world. Names of fields are names of flags.

    Every value is checked against its declaration when an instance is made.

    Raises:
      ArgumentError: on a value of another type, out of range, or not among the choices.
    """

    workdir: str = option('runs/toy', 'where all files of the run go', group='run', required=True)
    stages: tuple[str, ...] = option(
        STAGES, 'what to do if it is not done yet', group='run', choices=STAGES
    )
    report_to: tuple[str, ...] = option(
        (), 'where losses are shown beside metrics.jsonl; needs the extra [metrics]', group='run',
        choices=TRACKERS,
    )  # fmt: skip
    source_model: str = option('toy-source', f'source model: {_MODEL}', group='models')
    target_model: str = option('toy-target', f'target model: {_MODEL}', group='models')
    end_tokens: tuple[str, ...] = option(
        (), "tokens that end an answer in place of the models' own, where no template writes one: "
        'of source and target, or one for all', group='models',
    )  # fmt: skip
    data_dir: str = option(
        '', 'data sets as <name>/<split>.jsonl[.gz]; the hub if empty', group='data'
    )
    anchors: tuple[str, ...] = option(
        language.ANCHORS, 'tasks with adapters on both models', group='tasks'
    )
    heldouts: tuple[str, ...] = option(
        language.HELDOUTS, 'tasks whose target adapter is predicted', group='tasks'
    )
    task_files: tuple[str, ...] = option(
        (), 'files of tasks of your own, or directories of them (docs/tasks.md)', group='tasks'
    )
    methods: tuple[str, ...] = option(
        (
            'mean', 'global_ridge', 'pertensor_ridge', 'topk8_global_ridge',
            'topk8_pertensor_ridge', 'pertensor_mlp', 'delta_ridge', 'matched_ridge',
            'matched_scaled', 'distilled',
        ),
        "mappings to fit and evaluate: names of lorajax.mapping.METHODS; 'distilled', which trains "
        "on what the source model answers; 'reweighted', which puts anchors together to fit it",
        group='mappings',
    )  # fmt: skip
    distill_from: str = option(
        mapping.DEFAULT,
        f"where 'distilled' and 'reweighted' start: a mapping, or {FRESH!r} for 'distilled' alone",
        group='mappings',
    )
    distill_prompts: int = option(
        0,
        "prompts of the anchors for 'distilled', of whose answers the surer half is learned; 0 for "
        'twice train_per_task',
        group='mappings',
        minimum=0,
    )
    reweight_prompts: int = option(
        32, "prompts of the held-out, without their answers, for 'reweighted'", group='mappings',
        minimum=1,
    )  # fmt: skip
    activation_places: int = option(
        1024, 'positions of shared text for methods that look at activations',
        group='mappings', minimum=1,
    )  # fmt: skip
    diagnostics: bool = option(
        True,
        "what bounds a translation: placebo, span oracle, the held-outs' target adapters trained "
        'once more',
        group='mappings',
    )
    experiments: tuple[str, ...] = option(
        EXPERIMENTS,
        '1: main table, always done; 2: anchor count x top-k; 3: anchors of one domain',
        group='tables', choices=EXPERIMENTS,
    )  # fmt: skip
    anchor_counts: tuple[int, ...] = option(
        (4, 8, 12, 16), 'experiment 2: numbers of anchors', group='tables', minimum=1
    )
    anchor_draws: int = option(
        3, 'experiment 2: choices of anchors for each number', group='tables', minimum=1
    )
    top_k_grid: tuple[int, ...] = option(
        (1, 2, 4, 8), 'experiment 2: numbers of nearest anchors, beside all', group='tables',
        minimum=1,
    )  # fmt: skip
    scaling_methods: tuple[str, ...] = option(
        ('global_ridge', 'matched_scaled'), 'experiment 2: mappings', group='tables'
    )
    transfer_methods: tuple[str, ...] = option(
        ('mean', 'global_ridge', 'topk8_global_ridge', 'matched_scaled'), 'experiment 3: mappings',
        group='tables',
    )  # fmt: skip
    study_items: int = option(
        100, 'experiments 2 and 3: items per held-out, the first of the main table', group='tables',
        minimum=1,
    )  # fmt: skip
    protocol: str = option(
        'direct', 'how answers are asked for: alone, or after a worked solution', group='data',
        choices=PROTOCOLS,
    )  # fmt: skip
    top_k: int = option(
        8, 'anchors of the methods named topk_... without a number', group='mappings', minimum=1
    )
    lora_rank: int = option(4, 'rank of trained adapters', group='adapters', minimum=1)
    lora_alpha: float = option(
        8.0, 'an update is scaled by alpha / rank', group='adapters', minimum=1e-6
    )
    lora_targets: tuple[str, ...] = option(
        TARGETS, 'adapted projections', group='adapters', choices=TARGETS
    )
    output_rank: int = option(
        0, "rank of predicted adapters; 0 for the anchors'", group='mappings', minimum=0
    )
    num_epochs: float = option(
        4.0, 'passes over the training examples', group='training', minimum=1e-6
    )
    train_per_task: int = option(800, 'most training examples of a task', group='data', minimum=1)
    batch_size: int = option(32, 'examples per step and adapter', group='training', minimum=1)
    learning_rate: float = option(2e-3, 'peak of the schedule', group='training', minimum=0.0)
    schedule: str = option(
        'cosine', 'learning rate after the warm-up', group='training', choices=SCHEDULES
    )
    warmup_ratio: float = option(
        0.05, 'share of the steps over which the rate rises', group='training', minimum=0.0,
        maximum=1.0,
    )  # fmt: skip
    weight_decay: float = option(0.0, 'decoupled, of AdamW', group='training', minimum=0.0)
    max_grad_norm: float = option(
        1.0, 'global norm to which gradients are clipped', group='training', minimum=1e-9
    )
    eval_per_task: int = option(
        300, 'most evaluation items of a task; fewer where the data has fewer', group='data',
        minimum=1,
    )  # fmt: skip
    eval_batch_size: int = option(
        100, 'prompts decoded together, for every adapter at once', group='decoding', minimum=1
    )
    max_len: int = option(
        32,
        'tokens of a prompt and its answer; training cuts answers, decoding the beginning of '
        'prompts',
        group='lengths', minimum=8,
    )  # fmt: skip
    max_new_tokens: int = option(
        0, "tokens decoded per item; 0 for the longest answer of the task's training rows",
        group='lengths', minimum=0,
    )  # fmt: skip
    adapters_per_step: int = option(
        0, 'adapters trained or evaluated together; 0 for all', group='machine', minimum=0
    )
    param_dtype: str = option(
        'float32', 'of base weights in memory', group='precision', choices=DTYPES
    )
    dtype: str = option('float32', 'of the computation', group='precision', choices=DTYPES)
    quantize: str = option(
        'none', 'frozen base weights: int8 for half the memory of bfloat16, int4 for a quarter',
        group='precision',
        choices=quantized.KINDS,
    )  # fmt: skip
    remat: str = option(
        'none', 'what the backward pass computes again', group='machine', choices=REMAT_POLICIES
    )
    attention: str = option(
        kernels.AUTO, 'kernel of attention in training; auto: what suits the devices',
        group='machine', choices=kernels.NAMES,
    )  # fmt: skip
    mesh: tuple[int, ...] = option(
        (1, -1, 1),
        'devices on data,fsdp,tensor, and on adapters where each is to have adapters of its own; '
        '-1: the rest',
        group='machine', minimum=-1,
    )  # fmt: skip
    compilation_cache: str = option(
        '',
        "where compiled programs are kept for the next run; empty: in the user's cache directory, "
        "'none': nowhere",
        group='machine',
    )
    seed: int = option(0, 'of data choice, data order and initialisation', group='data', minimum=0)
    separate_init: bool = option(
        False, 'every adapter starts from factors of its own, not from shared ones',
        group='adapters',
    )  # fmt: skip
    checkpoint_every: int = option(
        50, 'training steps between two saved states', group='training', minimum=1
    )
    allow_code_execution: bool = option(
        False, 'run programs that a model writes, in a sandbox, to score them', group='decoding'
    )

    def __post_init__(self) -> None:
        options.check(self)

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
        """Returns what adapters of a side name as their base: directory or hub id."""
        name = self.source_model if side == 'source' else self.target_model
        return str(self.files.model(side)) if name in toy.MODELS else name

    @property
    def train_config(self) -> TrainConfig:
        """The recipe of every adapter."""
        return TrainConfig(
            **{field: getattr(self, name) for name, field in _RECIPE.items()},
            targets=self.lora_targets,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns every field as JSON has it, methods with their `top_k` written in."""
        fields = {**dataclasses.asdict(self), 'methods': self.mapping_methods}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in fields.items()
        }

    def differences(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the settings in which a stored run differs, with their values there.

        Args:
          stored: content of the run's config.json. A setting that it lacks is newer than the run,
            which had its default then.
        """
        known = options.options_of(Experiment)
        before = {
            name: list(declared.default) if declared.is_list else declared.default
            for name, declared in known.items()
        }
        return {
            name: stored.get(name, before[name])
            for name, value in self.to_json().items()
            if name not in _FREE and stored.get(name, before[name]) != value
        }


# What a command that works on one model starts from, where the toy's numbers would be wrong: the
# recipe of `TrainConfig`, lengths that hold a conversation, and a base in half precision.
RECIPE: Mapping[str, Any] = {
    **{name: getattr(TrainConfig, field) for name, field in _RECIPE.items()},
    'train_per_task': 1500,
    'eval_per_task': 300,
    'eval_batch_size': 32,
    'max_len': 1024,
    'max_new_tokens': 512,
    'remat': 'full',
    'param_dtype': 'bfloat16',
    'dtype': 'bfloat16',
}
