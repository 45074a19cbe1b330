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

# Floating-point operations that a device could do in the time of compiling a training step, over
# the four that a token costs for each parameter: 4 s of two cores, 20 s of an accelerator.
_CPU_COMPILING, _COMPILING = 1e11, 5e14


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
    num_rows = sharding.pad_rows(model.mesh, 1)
    plan = TrainPlan(examples, config, num_rows, pad_id, program_tokens(model))
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
            pack, lookback = plan.pack(step), plan.shapes[step].lookback
            state, loss = train_step(
                model.params, state, pack, plan.rates[step], config.scale, lookback
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


def program_tokens(model: Model) -> float:
    """Returns how many tokens a model is trained on while a program for it is compiled."""
    platform = next(iter(model.mesh.devices.flat)).platform
    return (_CPU_COMPILING if platform == 'cpu' else _COMPILING) / model.config.num_params


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
