"""LoRA training: many adapters on one frozen base in one compiled step.

The base is an argument that is not differentiated; adapters are stacked on a leading axis A
and the step is vmapped over it, so the products with base weights of all adapters are one
matrix product. One adapter is the case A = 1.
"""

import dataclasses
import functools
import math
import resource
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from lorajax import sharding
from lorajax.errors import InputError
from lorajax.lora import tree as lora_params
from lorajax.models import Model, ModelConfig
from lorajax.models.loss import target_nll
from lorajax.models.transformer import PARAM_AXES
from lorajax.progress import Progress
from lorajax.rng import generator
from lorajax.tasks.batching import Batch, bucket, make_batch, shape_of
from lorajax.tasks.chat import Encoded
from lorajax.training.checkpoint import TrainCheckpoints
from lorajax.training.metrics import MetricWriter
from lorajax.types import Adapter

_SCHEDULE_TICKS = 10_000  # resolution on which optax schedules are evaluated
_METRICS_EVERY = 10  # steps between two reads of the loss from the device


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
      checkpoint_every: steps between two saved states.
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
    checkpoint_every: int = 100


class TrainState(NamedTuple):
    """What a training step changes; every leaf has a leading axis A.

    Here, and only here, the scale alpha / rank is not folded into `b`: AdamW's steps do not
    depend on the size of a gradient, so where the scale stands matters to the result.
    """

    adapters: Adapter
    opt_state: optax.OptState


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Returns AdamW for one adapter, without the learning rate.

    The rate differs between adapters of one step (they end at different steps), so it is a
    factor that `make_train_step` applies.

    Source: Loshchilov & Hutter 2019, algorithm 2.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        _scale_by_adam(config.beta1, config.beta2, config.epsilon),
        optax.add_decayed_weights(config.weight_decay),
    )


def _scale_by_adam(beta1: float, beta2: float, epsilon: float) -> optax.GradientTransformation:
    """Returns `optax.scale_by_adam` with bias corrections that are right in float32.

    optax computes 1 - beta2**count from a beta2 rounded to float32, which leaves five digits of
    the 0.001 of the first step and makes the first steps up to 1e-5 too short. Source: Kingma &
    Ba 2015, algorithm 1.
    """

    def bias(beta: float, count: jax.Array) -> jax.Array:
        return -jnp.expm1(count * math.log(beta)) if beta else jnp.ones(())

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        del params
        count = optax.safe_increment(state.count)
        mu = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state.mu, grads)
        nu = jax.tree.map(lambda n, g: beta2 * n + (1 - beta2) * g**2, state.nu, grads)
        first, second = bias(beta1, count), bias(beta2, count)
        updates = jax.tree.map(lambda m, n: m / first / (jnp.sqrt(n / second) + epsilon), mu, nu)
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def learning_rate(config: TrainConfig, step: np.ndarray, num_steps: np.ndarray) -> jax.Array:
    """Returns float32[A], the rate of each adapter at its own step (counted from 0).

    Args:
      config: names peak, schedule and warm-up.
      step: int[A], steps taken so far.
      num_steps: int[A], steps in all.
    """
    warmup = round(config.warmup_ratio * _SCHEDULE_TICKS)
    rest = max(_SCHEDULE_TICKS - warmup, 1)
    decay = {
        'cosine': optax.cosine_decay_schedule(config.learning_rate, rest),
        'linear': optax.linear_schedule(config.learning_rate, 0.0, rest),
        'constant': optax.constant_schedule(config.learning_rate),
    }[config.schedule]
    rise = optax.linear_schedule(0.0, config.learning_rate, max(warmup, 1))
    schedule = optax.join_schedules([rise, decay], [warmup])
    # The first step of a warm-up would otherwise have a rate of zero and be wasted.
    offset = 1 if warmup else 0
    ticks = jnp.asarray((step + offset) / (num_steps + offset) * _SCHEDULE_TICKS)
    return jnp.broadcast_to(schedule(ticks), ticks.shape).astype(jnp.float32)


def adapter_shardings(model: Model, targets: Sequence[str], stacked: bool) -> Adapter:
    """Returns the sharding of every adapter leaf: `a` follows the input axis of its base
    kernel, `b` the output axis, the rank is replicated.

    Args:
      model: its mesh and config.
      targets: adapted projections.
      stacked: whether leaves have a leading axis A (replicated).
    """
    lead = (None,) if stacked else ()
    layers = {}
    for name in targets:
        _, fan_in, fan_out = PARAM_AXES[f'layers/{name}/kernel']
        layers[name] = {
            'a': sharding.sharding(model.mesh, *lead, None, fan_in, None),
            'b': sharding.sharding(model.mesh, *lead, None, None, fan_out),
        }
    return {'layers': layers}


def make_train_step(model: Model, config: TrainConfig) -> Any:
    """Returns the compiled step `(params, state, batch, rates, is_active) -> (state, loss)`.

    Shapes: every leaf of `state` and of the `Batch` has a leading axis A; `rates` is
    float32[A]; `is_active` bool[A] freezes adapters whose training has ended; `loss` is
    float32[A], nats per answer token. `state` is donated.
    """
    optimizer = make_optimizer(config)

    def one(
        params: Any, state: TrainState, batch: Batch, rate: jax.Array, is_active: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        def loss(adapter: Adapter) -> jax.Array:
            folded = lora_params.fold_scale(adapter, config.alpha / config.rank)
            nll = target_nll(model.module, params, folded, *batch)
            return nll.sum() / jnp.maximum(batch.target_mask.sum(), 1.0)

        value, grads = jax.value_and_grad(loss)(state.adapters)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.adapters)
        updates = jax.tree.map(lambda u: -rate * u, updates)
        new = TrainState(optax.apply_updates(state.adapters, updates), opt_state)
        return jax.tree.map(lambda n, o: jnp.where(is_active, n, o), new, state), value

    many = jax.vmap(one, in_axes=(None, 0, 0, 0, 0))
    batch_sharding = NamedSharding(model.mesh, PartitionSpec(None, sharding.RULES['batch']))
    everywhere = NamedSharding(model.mesh, PartitionSpec())
    state_shardings = _state_shardings(model, config)
    return jax.jit(
        many,
        in_shardings=(
            jax.tree.map(lambda leaf: leaf.sharding, model.params),
            state_shardings,
            Batch(*(batch_sharding,) * 4),
            everywhere,
            everywhere,
        ),
        out_shardings=(state_shardings, everywhere),
        donate_argnums=(1,),
    )


def _state_shardings(model: Model, config: TrainConfig) -> TrainState:
    """Returns the sharding of a `TrainState`: moments lie where their factors lie."""
    adapters = adapter_shardings(model, config.targets, stacked=True)
    shapes = jax.eval_shape(lambda: init_state(model.config, config, ('any',)))
    everywhere = NamedSharding(model.mesh, PartitionSpec())
    opt_state = optax.tree.map_params(
        make_optimizer(config),
        lambda _, where: where,
        shapes.opt_state,
        adapters,
        transform_non_params=lambda _: everywhere,
    )
    return TrainState(adapters, opt_state)


def init_state(shape: ModelConfig, config: TrainConfig, tasks: Sequence[str]) -> TrainState:
    """Returns fresh adapters of tasks and their moments.

    The initial `a` depends on the seed and, with `separate_init`, on the task's name, but not
    on which adapters are trained together.
    """

    def adapter(key: jax.Array) -> Adapter:
        return lora_params.init_adapter(
            key, shape.projections, shape.num_layers, config.rank, config.targets
        )

    if config.separate_init:
        drawn = [generator(config.seed, 'init', task, config.repeat) for task in tasks]
        seeds = jnp.array([rng.integers(2**31) for rng in drawn], jnp.uint32)
        adapters = jax.vmap(lambda seed: adapter(jax.random.key(seed)))(seeds)
    else:
        shared = adapter(jax.random.key(config.seed))
        adapters = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], len(tasks), axis=0), shared)
    return TrainState(adapters, jax.vmap(make_optimizer(config).init)(adapters))


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Which examples each adapter of a group sees at each step."""

    examples: Mapping[str, Sequence[Encoded]]
    config: TrainConfig

    @functools.cached_property
    def num_steps(self) -> np.ndarray:
        """int[A], steps of each adapter."""
        size, epochs = self.config.batch_size, self.config.num_epochs
        per_epoch = [math.ceil(len(rows) / size) for rows in self.examples.values()]
        return np.array([max(1, round(count * epochs)) for count in per_epoch])

    @functools.cached_property
    def longest(self) -> tuple[int, int]:
        """Lengths of the longest sequence and the longest answer."""
        return shape_of([row for rows in self.examples.values() for row in rows])

    def rows(self, task: str, step: int) -> list[Encoded]:
        """Returns the examples of one adapter at one step, from seed, task and step alone."""
        examples, size = self.examples[task], self.config.batch_size
        epoch, index = divmod(step, math.ceil(len(examples) / size))
        names = ('order', task, epoch) + (
            ('repeat', self.config.repeat) if self.config.repeat else ()
        )
        order = generator(self.config.seed, *names).permutation(len(examples))
        return [examples[i] for i in order[index * size : (index + 1) * size]]

    def batch(self, step: int, pad_id: int) -> Batch:
        """Returns the stacked batch [A, B, ...] of a step; ended adapters get empty rows."""
        chosen = [
            self.rows(task, step) if step < total else []
            for task, total in zip(self.examples, self.num_steps, strict=True)
        ]
        shapes = zip(*[shape_of(rows) for rows in chosen], strict=True)
        # No shape need exceed the longest example of all.
        length, targets = (
            min(bucket(max(sizes)), most) for sizes, most in zip(shapes, self.longest, strict=True)
        )
        parts = [
            make_batch(rows, self.config.batch_size, length, targets, pad_id) for rows in chosen
        ]
        return Batch(*(np.stack(arrays) for arrays in zip(*parts, strict=True)))


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
) -> dict[str, Adapter]:
    """Trains one adapter per task, all in the same steps.

    The result depends on the arguments alone, not on where a killed training was resumed;
    an adapter trained in a group equals the one trained alone up to rounding.

    Args:
      model: the frozen base.
      examples: training examples by task, none empty.
      config: the recipe.
      pad_id: token that fills batches.
      label: for progress and metrics, such as 'source'.
      start_from: adapters of the config's rank to go on from, such as translated ones, scale
        folded in; by default fresh ones.
      checkpoints: where to resume from and save to.
      metrics: where losses go.

    Returns:
      Adapters by task, on the host, scale folded in.

    Raises:
      InputError: if a loss is not finite, naming task and step; if the mesh does not divide
        the batch.
    """
    rows_per = math.prod(model.mesh.shape[axis] for axis in ('data', 'fsdp'))
    if config.batch_size % rows_per:
        raise InputError(
            f'--batch_size={config.batch_size}: expected a multiple of {rows_per}, the devices '
            'on the data and fsdp axes of --mesh'
        )
    plan = _Plan(examples, config)
    metrics = metrics or MetricWriter(None)
    init = jax.jit(
        functools.partial(init_state, model.config, config, tuple(examples)),
        out_shardings=_state_shardings(model, config),
    )
    start, state = 0, init()
    if start_from:
        given = lora_params.stack([start_from[task] for task in examples])
        given = lora_params.fold_scale(given, config.rank / config.alpha)
        placed = jax.tree.map(
            lambda leaf, old: jax.device_put(leaf, old.sharding), given, state.adapters
        )
        state = state._replace(adapters=placed)
    if checkpoints:
        start, state = checkpoints.restore(state)
    tasks, total = list(examples), int(plan.num_steps.max())
    step_fn = make_train_step(model, config)
    window = _Window(label, tasks, metrics)
    with Progress(label, total, start) as progress:
        for step in range(start, total):
            batch = plan.batch(step, pad_id)
            at = np.minimum(step, plan.num_steps - 1)
            rates = learning_rate(config, at, plan.num_steps)
            state, loss = step_fn(model.params, state, batch, rates, step < plan.num_steps)
            window.add(batch, loss)
            is_last = step == total - 1
            if is_last or (step + 1) % _METRICS_EVERY == 0:
                shown = window.flush(step, step < plan.num_steps, step_fn._cache_size())
                progress.update(0, **shown)
            if checkpoints and (is_last or (step + 1) % config.checkpoint_every == 0):
                checkpoints.save(step + 1, state)
            progress.update()
    adapters = lora_params.fold_scale(state.adapters, config.alpha / config.rank)
    return dict(zip(tasks, lora_params.unstack(adapters), strict=True))


class _Window:
    """Gathers losses and token counts between two reads of the device."""

    def __init__(self, label: str, tasks: list[str], metrics: MetricWriter) -> None:
        self._label, self._tasks, self._metrics = label, tasks, metrics
        self._reset()

    def _reset(self) -> None:
        self._losses: list[jax.Array] = []
        self._real = self._all = 0
        self._start = time.monotonic()

    def add(self, batch: Batch, loss: jax.Array) -> None:
        """Records a step without waiting for the device."""
        self._losses.append(loss)
        self._real += int(batch.segment_ids.sum())
        self._all += batch.segment_ids.size

    def flush(self, step: int, is_active: np.ndarray, compiled: int) -> dict[str, str]:
        """Writes the means since the last flush and returns what a progress bar shows.

        Raises:
          InputError: if the loss of an adapter is not finite.
        """
        losses = np.mean([np.asarray(loss) for loss in self._losses], axis=0)
        bad = ~np.isfinite(losses) & is_active
        if bad.any():
            task = self._tasks[int(np.flatnonzero(bad)[0])]
            raise InputError(
                f'{self._label}: loss of {task} is {losses[bad][0]} at step {step}; try a lower '
                '--learning_rate'
            )
        seconds = max(time.monotonic() - self._start, 1e-9)
        self._metrics.write(
            'train',
            side=self._label,
            step=step + 1,
            tasks=self._tasks,
            loss=[
                round(float(x), 5) if on else None for x, on in zip(losses, is_active, strict=True)
            ],
            tokens_per_second=round(self._real / seconds, 1),
            padding_share=round(1 - self._real / self._all, 4),
            compile_count=compiled,
            **_memory(),
        )
        shown = {
            'loss': f'{losses[is_active].mean():.3f}',
            'tokens/s': f'{self._real / seconds:,.0f}',
        }
        self._reset()
        return shown


def _memory() -> dict[str, int]:
    """Returns the peak of device memory in bytes where the device says it, else of the host."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if 'peak_bytes_in_use' in stats:
        return {'device_peak_bytes': stats['peak_bytes_in_use']}
    return {'host_peak_bytes': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
