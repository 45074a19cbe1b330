"""`train_adapters`: many adapters on one frozen base, in one compiled step.

Adapters are stacked on a leading axis A and trained side by side; one adapter is the case A = 1.
"""

from collections.abc import Callable, Mapping, Sequence

import jax

from lorajax import processes, sharding
from lorajax.errors import ArgumentError, InputError
from lorajax.lora.tree import fold_scale, stack
from lorajax.models import Model
from lorajax.progress import Progress, meet
from lorajax.tasks.chat import Encoded
from lorajax.training.checkpoint import TrainCheckpoints
from lorajax.training.config import TrainConfig
from lorajax.training.metrics import CompileClock, LossWindow, MetricWriter
from lorajax.training.optimizer import make_optimizer
from lorajax.training.plan import TrainPlan
from lorajax.training.slots import Slots
from lorajax.training.state import (
    TrainState,
    init_state,
    narrow,
    replace_one,
    resize,
    stacked_shape,
    widen,
)
from lorajax.training.step import make_train_step
from lorajax.types import Adapter

# First what a device could compute while a training step is compiled, in operations over the four
# that a token costs for each parameter: 4 s of two cores, 20 s of an accelerator. Then tokens that
# it computes at a time: of 9152 tokens of the toy's source model, 572 at a time took half the
# CPU's time that all took at once, as their activations stay in its caches; an accelerator wants
# many, within its memory.
_CPU, _ACCELERATOR = (2e11, 640), (5e14, 32768)
# What the recipes of one step have in common: they are constants of its program.
_SHARED = (
    'weight_decay', 'beta1', 'beta2', 'epsilon', 'max_grad_norm', 'checkpoint_every',
)  # fmt: skip


def train_adapters(
    model: Model,
    examples: Mapping[str, Sequence[Encoded]],
    config: TrainConfig | Mapping[str, TrainConfig],
    *,
    pad_id: int,
    label: str = 'train',
    start_from: Mapping[str, Adapter] | None = None,
    checkpoints: TrainCheckpoints | None = None,
    metrics: MetricWriter | None = None,
    metrics_every: int = 10,
    num_slots: int = 0,
    on_done: Callable[[str, Adapter], None] = lambda task, adapter: None,
    on_look: Callable[[int, dict[str, Adapter]], Mapping[str, str]] | None = None,
    look_every: int = 0,
) -> dict[str, Adapter]:
    """Trains one adapter per task, in shared steps.

    The result depends on the arguments alone, not on where a killed training was resumed;
    an adapter trained in a group equals the one trained alone up to rounding.

    Args:
      model: the frozen base.
      examples: training examples by task, none empty.
      config: the recipe of all, or of each by task. Recipes may differ in all but AdamW's own
        numbers, the norm of clipping and `checkpoint_every`.
      pad_id: token that fills what the examples of a step leave free.
      label: for progress and metrics, such as 'source'.
      start_from: adapters of the config's rank to go on from, such as translated ones, scale
        folded in; by default fresh ones.
      checkpoints: where to resume from and save to.
      metrics: where losses go.
      metrics_every: steps between two reads of the loss from the device.
      num_slots: adapters of a step; one whose training has ended makes room for the next. All at
        once if 0.
      on_done: is given every adapter as soon as its place is needed or the training ends. One
        that was given away before the state from which a training resumes is not given again.
      on_look: is given the number of steps that are done and the adapters under way, to see how
        they do on other rows; what it returns is shown beside the progress.
      look_every: steps between two looks; none if 0. The last step is looked at, too.

    Returns:
      The adapters that were given to `on_done` in this call, by task, on the host, scale folded
      in. These are all, but for a training with slots that was resumed.

    Raises:
      ArgumentError: if `config.targets` are no projections of the model, or recipes differ in what
        they must share.
      InputError: if a task has no examples; if an adapter of `start_from` has a higher rank than
        its recipe; if a loss is not finite, naming task and step.
    """
    configs = _check(model, examples, config)
    _check_start(start_from or {}, dict(zip(examples, configs, strict=True)))
    plan = make_plan(model, examples, config, pad_id, num_slots)
    group = _Group(model, list(examples), configs, plan.slots, start_from)
    state = group.begin()
    first, total = 0, len(plan.rates)
    if checkpoints:
        first, stored = checkpoints.restore(group.stored(state))
        state = group.restored(stored, state) if first else state
    optimizer = make_optimizer(configs[0])
    train_step = make_train_step(model.module, model.mesh, optimizer, group.stacked[1])
    rows = sharding.sharding(model.mesh, 'packed', None)
    window = LossWindow(label, group.tasks, metrics or MetricWriter(None))
    trained: dict[str, Adapter] = {}

    def give_away(state: TrainState, slot: int, step: int) -> None:
        if (adapter := plan.slots.holder(slot, step)) is not None:
            task = group.tasks[adapter]
            trained[task] = group.take(state, adapter)
            on_done(task, trained[task])

    with Progress(label, total, first) as progress, CompileClock() as clock:
        for step in range(first, total):
            for adapter in plan.slots.arrivals(step) if step else ():
                give_away(state, int(plan.slots.slot[adapter]), step)
                state = group.put(state, adapter)
            pack = plan.pack(step)
            state, loss = train_step(
                model.params,
                state,
                processes.place(pack, rows),
                plan.rates[step],
                plan.scales(step),
                plan.blocking(step),
                plan.layout.num_pieces,
            )
            window.add(pack, loss, plan.slots.occupants[step])
            is_last = step == total - 1
            if is_last or (step + 1) % metrics_every == 0:
                progress.update(0, **window.flush(step, train_step._cache_size(), clock))
                meet()
            if on_look and look_every and (is_last or (step + 1) % look_every == 0):
                under_way = [int(adapter) for adapter in plan.slots.occupants[step] if adapter >= 0]
                looked = {group.tasks[i]: group.take(state, i) for i in under_way}
                progress.update(0, **on_look(step + 1, looked))
            is_due = is_last or (step + 1) % configs[0].checkpoint_every == 0
            if checkpoints and (is_due or progress.is_interrupted):
                checkpoints.save(step + 1, group.stored(state))
            progress.update()
    for slot in range(plan.rates.shape[1]):
        give_away(state, slot, total)
    return {task: trained[task] for task in examples if task in trained}


class _Group:
    """The adapters of a training and the stack that holds some or all of them."""

    def __init__(
        self,
        model: Model,
        tasks: list[str],
        configs: list[TrainConfig],
        slots: Slots,
        start_from: Mapping[str, Adapter] | None,
    ) -> None:
        """Plans the stack."""
        self.tasks, self._model, self._configs, self._slots = tasks, model, configs, slots
        self._start_from = start_from
        self.stacked = stacked_shape(model.config, configs)

    def begin(self) -> TrainState:
        """Returns the stack as the first step finds it."""
        came = sorted(self._slots.arrivals(0), key=lambda adapter: self._slots.slot[adapter])
        return self._fresh(came + came[:1] * (self._slots.num_places - len(came)))

    def stored(self, state: TrainState) -> TrainState:
        """Returns what is saved of the stack, which does not depend on the mesh."""
        return resize(state, self._slots.num_used)

    def restored(self, stored: TrainState, like: TrainState) -> TrainState:
        """Returns the stack that was `stored`, placed like another."""
        where = jax.tree.map(lambda leaf: leaf.sharding, like)
        return jax.device_put(resize(stored, self._slots.num_places), where)

    def put(self, state: TrainState, adapter: int) -> TrainState:
        """Puts an adapter, as it begins, in its place of the stack; `state` is donated."""
        return replace_one(state, int(self._slots.slot[adapter]), self._fresh([adapter]))

    def take(self, state: TrainState, adapter: int) -> Adapter:
        """Returns an adapter out of its place, on the host, scale folded in."""
        place, config = self._slots.slot[adapter], self._configs[adapter]
        host = processes.to_host(jax.tree.map(lambda leaf: leaf[place], state.adapters))
        return fold_scale(narrow(host, config), config.scale)

    def _fresh(self, adapters: Sequence[int]) -> TrainState:
        """Returns a stack of adapters as they begin."""
        model, configs = self._model, [self._configs[adapter] for adapter in adapters]
        tasks = [self.tasks[adapter] for adapter in adapters]
        state = init_state(model.config, configs, tasks, model.mesh, self.stacked)
        if not self._start_from:
            return state
        begun = [
            widen(
                fold_scale(self._start_from[task], 1.0 / config.scale),
                model.config,
                *self.stacked,
            )
            for task, config in zip(tasks, configs, strict=True)
        ]
        placed = jax.tree.map(
            lambda leaf, fresh: processes.place(leaf, fresh.sharding),
            stack(begun),
            state.adapters,
        )
        return state._replace(adapters=placed)


def make_plan(
    model: Model,
    examples: Mapping[str, Sequence[Encoded]],
    config: TrainConfig | Mapping[str, TrainConfig],
    pad_id: int,
    num_slots: int = 0,
) -> TrainPlan:
    """Returns the steps of a training, cut as suits the model's devices.

    Args:
      model: the base.
      examples: of each adapter.
      config: recipe of all adapters, or of each by name.
      pad_id: fills rows.
      num_slots: adapters trained together, others following those that have ended; all if 0.
    """
    platform = next(iter(model.mesh.devices.flat)).platform
    compiling, piece_tokens = _CPU if platform == 'cpu' else _ACCELERATOR
    shards = sharding.pad_rows(model.mesh, 1)
    program_tokens = compiling / model.config.num_params
    parts = model.mesh.shape['adapters']
    return TrainPlan(
        examples, config, shards, pad_id, program_tokens, piece_tokens, num_slots, parts
    )


def _check(
    model: Model,
    examples: Mapping[str, Sequence[Encoded]],
    config: TrainConfig | Mapping[str, TrainConfig],
) -> list[TrainConfig]:
    """Refuses what cannot be trained, see `train_adapters`; returns the recipe of each task."""
    configs = [config if isinstance(config, TrainConfig) else config[task] for task in examples]
    for each in configs:
        if not each.targets or not set(each.targets) <= set(model.config.projections):
            raise ArgumentError(
                'lora_targets',
                ','.join(each.targets),
                f'expected some of {", ".join(model.config.projections)}',
            )
        for name in _SHARED:
            if getattr(each, name) != getattr(configs[0], name):
                raise ArgumentError(
                    name,
                    getattr(each, name),
                    f'expected {getattr(configs[0], name)}, as of the others of a group',
                )
    for task, rows in examples.items():
        if not rows:
            raise InputError(f'{task}: has no training examples, expected at least one')
    return configs


def _check_start(start_from: Mapping[str, Adapter], configs: Mapping[str, TrainConfig]) -> None:
    """Refuses adapters to go on from that do not fit into their recipe's rank."""
    for task, adapter in start_from.items():
        rank = max(entry['a'].shape[-1] for entry in adapter['layers'].values())
        if task in configs and rank > configs[task].rank:
            raise InputError(
                f'{task}: the adapter to go on from has rank {rank}, the recipe '
                f'{configs[task].rank}; truncate it or train that rank'
            )
