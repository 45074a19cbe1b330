"""`train_adapters`: many adapters on one frozen base, in one compiled step.

Adapters are stacked on a leading axis A and trained side by side; one adapter is the case A = 1.
"""

from collections.abc import Mapping, Sequence

import jax

from lorajax import sharding
from lorajax.errors import ArgumentError, InputError
from lorajax.lora.tree import fold_scale, stack, unstack
from lorajax.models import Model
from lorajax.progress import Progress
from lorajax.tasks.chat import Encoded
from lorajax.training.checkpoint import TrainCheckpoints
from lorajax.training.config import TrainConfig
from lorajax.training.metrics import CompileClock, LossWindow, MetricWriter
from lorajax.training.optimizer import make_optimizer
from lorajax.training.plan import TrainPlan
from lorajax.training.state import TrainState, init_state
from lorajax.training.step import make_train_step
from lorajax.types import Adapter

# First what a device could compute while a training step is compiled, in operations over the four
# that a token costs for each parameter: 4 s of two cores, 20 s of an accelerator. Then tokens that
# it computes at a time: of 9152 tokens of the toy's source model, 572 at a time took half the
# CPU's time that all took at once, as their activations stay in its caches; an accelerator wants
# many, within its memory.
_CPU, _ACCELERATOR = (2e11, 640), (5e14, 32768)


def train_adapters(
    model: Model,
    examples: Mapping[str, Sequence[Encoded]],
    config: TrainConfig,
    *,
    pad_id: int,
    label: str = 'train',
    start_from: Mapping[str, Adapter] | None = None,
    checkpoints: TrainCheckpoints | None = None,
    metrics: MetricWriter | None = None,
    metrics_every: int = 10,
) -> dict[str, Adapter]:
    """Trains one adapter per task, all in the same steps.

    The result depends on the arguments alone, not on where a killed training was resumed;
    an adapter trained in a group equals the one trained alone up to rounding.

    Args:
      model: the frozen base.
      examples: training examples by task, none empty.
      config: the recipe.
      pad_id: token that fills what the examples of a step leave free.
      label: for progress and metrics, such as 'source'.
      start_from: adapters of the config's rank to go on from, such as translated ones, scale
        folded in; by default fresh ones.
      checkpoints: where to resume from and save to.
      metrics: where losses go.
      metrics_every: steps between two reads of the loss from the device.

    Returns:
      Adapters by task, on the host, scale folded in.

    Raises:
      ArgumentError: if `config.targets` are no projections of the model.
      InputError: if a task has no examples; if a loss is not finite, naming task and step.
    """
    _check(model, examples, config)
    plan = make_plan(model, examples, config, pad_id)
    tasks = list(examples)
    state = init_state(model.config, config, tasks, model.mesh)
    if start_from:
        state = _start(state, [start_from[task] for task in tasks], config)
    first, total = 0, len(plan.rates)
    if checkpoints:
        first, state = checkpoints.restore(state)
    train_step = make_train_step(model.module, model.mesh, make_optimizer(config), config.targets)
    window = LossWindow(label, tasks, metrics or MetricWriter(None))
    with Progress(label, total, first) as progress, CompileClock() as clock:
        for step in range(first, total):
            pack = plan.pack(step)
            state, loss = train_step(
                model.params,
                state,
                pack,
                plan.rates[step],
                config.scale,
                plan.shapes[step].lookback,
                plan.layout.num_pieces,
            )
            window.add(pack, loss, plan.is_active(step))
            is_last = step == total - 1
            if is_last or (step + 1) % metrics_every == 0:
                progress.update(0, **window.flush(step, train_step._cache_size(), clock))
            is_due = is_last or (step + 1) % config.checkpoint_every == 0
            if checkpoints and (is_due or progress.is_interrupted):
                checkpoints.save(step + 1, state)
            progress.update()
    return dict(zip(tasks, unstack(fold_scale(state.adapters, config.scale)), strict=True))


def make_plan(
    model: Model, examples: Mapping[str, Sequence[Encoded]], config: TrainConfig, pad_id: int
) -> TrainPlan:
    """Returns the steps of a training, cut as suits the model's devices."""
    platform = next(iter(model.mesh.devices.flat)).platform
    compiling, piece_tokens = _CPU if platform == 'cpu' else _ACCELERATOR
    shards = sharding.pad_rows(model.mesh, 1)
    program_tokens = compiling / model.config.num_params
    return TrainPlan(examples, config, shards, pad_id, program_tokens, piece_tokens)


def _check(model: Model, examples: Mapping[str, Sequence[Encoded]], config: TrainConfig) -> None:
    """Refuses what cannot be trained; see `train_adapters`."""
    if not config.targets or not set(config.targets) <= set(model.config.projections):
        raise ArgumentError(
            'lora_targets',
            ','.join(config.targets),
            f'expected some of {", ".join(model.config.projections)}',
        )
    for task, rows in examples.items():
        if not rows:
            raise InputError(f'{task}: has no training examples, expected at least one')


def _start(state: TrainState, adapters: Sequence[Adapter], config: TrainConfig) -> TrainState:
    """Returns the state with given factors, which lie where the fresh ones lay."""
    unfolded = fold_scale(stack(adapters), 1.0 / config.scale)
    placed = jax.tree.map(
        lambda leaf, fresh: jax.device_put(leaf, fresh.sharding), unfolded, state.adapters
    )
    return state._replace(adapters=placed)
