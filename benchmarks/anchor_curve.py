"""How a map grows with its anchors: `python -m benchmarks.anchor_curve --workdir=DIR`.

`--worlds`: worlds of `benchmarks.ladder`, the default map beside the same map of adapters measured
by what the source model feeds them, on left-out anchors and held-outs. `--curves`: the first 4, 8,
12 and 16 anchors of such worlds, drawn to `anchor_curve.png`. `--nine`: a world of nine shifts,
whose 54 functions leave 48 anchors and six held-outs; three splits of the same adapters. Its base
models know every function, but a training as long as the demo's leaves a quarter of the adapters,
nearly all of even shifts, far from it: those are trained anew, three times as long. `--climbs` adds
what 8 prompts of the held-outs' kind are worth from so many of the 48 anchors.

Answers are scored teacher-forced: an answer all of whose tokens are the likeliest is the answer
that greedy decoding gives.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib

matplotlib.use('agg')
import matplotlib.pyplot as plt
import numpy as np
from absl import app, flags, logging

from benchmarks import ladder
from lorajax import io, mapping
from lorajax.distillation import ladder as rungs
from lorajax.experiment import anchor_rows, models, pipeline
from lorajax.experiment import tasks as tasks_by_name
from lorajax.experiment.adapters import SIDES, load_trained
from lorajax.experiment.config import Experiment
from lorajax.lora import LoraConfig, load_peft, pad_rank, save_peft, stack
from lorajax.models import Model, activations
from lorajax.models.stacked import forward
from lorajax.models.transformer import unembed
from lorajax.tasks import examples
from lorajax.tasks.batching import Batch, make_batch, shape_of
from lorajax.tasks.chat import ChatFormat, Encoded
from lorajax.toy import pretrain, world
from lorajax.training import train_adapters
from lorajax.types import Adapter, JsonDict

METHODS = ('global_ridge', 'delta_ridge', 'matched_ridge', 'matched_scaled', 'span_oracle_tensor')
CURVES = ('f', 'm', 'i', 'o')  # worlds, all with shared factors
COUNTS, MANY = (4, 8, 12, 16), (4, 8, 16, 32, 48)
# Of the 54 functions: digits of commit 5726768043f0, after which nothing here was chosen.
SPLITS = (0x5726, 0x7680, 0x43F0)
_SEED = 0x768E  # of the adapters
# Chosen on left-out anchors of the worlds demo, f and g. Eigenvalues of the inputs' second moment
# to this power: 0 is the plain inner product, 0.5 that of the changes of outputs.
POWER = 0.25
_FLOOR = 1e-4  # of the mean eigenvalue
_ROWS, _ITEMS = 32, 100
_LEARNED = 0.05  # nats per token, at the end of a training
_PROMPTS, _CLIMBED = 8, 'reweighted, 8 prompts'


class Scored(dict[str, dict[str, tuple[float, float]]]):
    """Task -> way -> share of right answers and nats per token."""

    def gap(self, way: str, column: int) -> float:
        """Returns the pooled share of the oracle's gain, in accuracy (0) or loss (1)."""
        base, found, oracle = (
            sum(ways[name][column] for ways in self.values()) for name in ('base', way, 'oracle')
        )
        return (found - base) / (oracle - base)


@functools.partial(jax.jit, static_argnames='module')
def _forced(module, params, adapters, batch):  # type: ignore[no-untyped-def]
    """Returns the right answers float[A] and the nats per token float[A] of stacked adapters."""

    def one(adapter: Adapter) -> tuple[jax.Array, jax.Array]:
        hidden, _ = forward(module, params, adapter, batch.tokens, batch.segment_ids)
        before = jnp.take_along_axis(hidden, batch.target_index[..., None] - 1, axis=-2)
        logits = unembed(params, before)
        targets = jnp.take_along_axis(batch.tokens, batch.target_index, axis=-1)
        own = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
        nll = (jax.nn.logsumexp(logits, axis=-1) - own) * batch.target_mask
        is_right = (logits.argmax(-1) == targets) | (batch.target_mask == 0)
        return is_right.all(-1).mean(), nll.sum() / batch.target_mask.sum()

    return jax.lax.map(one, adapters)


def forced(
    model: Model, chat: ChatFormat, rows: Sequence[Encoded], adapters: Mapping[str, Adapter]
) -> dict[str, tuple[float, float]]:
    """Scores adapters on rows, and the bare model as 'base'."""
    rank = max(np.shape(e['a'])[-1] for a in adapters.values() for e in a['layers'].values())
    padded = [pad_rank(a, rank) for a in adapters.values()]
    stacked = stack([jax.tree.map(np.zeros_like, padded[0]), *padded])
    batch = Batch(*map(jnp.asarray, make_batch(rows, len(rows), *shape_of(rows), chat.pad_id)))
    right, nll = _forced(model.module, model.params, stacked, batch)
    names = ['base', *adapters]
    return dict(zip(names, zip(right.tolist(), nll.tolist(), strict=True), strict=True))


def roots(experiment: Experiment, rows: int = 3 * _ROWS) -> dict[str, np.ndarray]:
    """Returns float32[L, in, in], S^POWER of what each projection of the source model sees."""
    model, chat = models.load_side(experiment, 'source')
    encoded = examples.encode(
        chat, anchor_rows.interleaved(experiment)[:rows], experiment.max_len, 'anchors'
    )
    texts = [np.concatenate([row.prompt, row.answer]) for row in encoded]
    inputs = activations.collect(model, texts, [np.arange(len(t)) for t in texts]).inputs
    found = {}
    for name, states in inputs.items():
        layers = []
        for seen in states.astype(np.float64):
            values, vectors = np.linalg.eigh(seen.T @ seen)
            values = np.maximum(values, 0.0) + _FLOOR * values.mean()
            layers.append((vectors * (values / values.mean()) ** POWER) @ vectors.T)
        found[name] = np.stack(layers).astype(np.float32)
    return found


def measured(adapter: Adapter, by: Mapping[str, np.ndarray]) -> Adapter:
    """Returns an adapter whose plain inner products are those of `adapter` in a metric."""
    return {
        'layers': {
            name: {'a': by[name] @ np.asarray(entry['a']), 'b': entry['b']}
            for name, entry in adapter['layers'].items()
        }
    }


def compared(experiment: Experiment) -> JsonDict:
    """Returns shares of the gap with and without the metric, of left-out anchors and held-outs."""
    trained = {
        side: {t: load_trained(experiment, side, t) for t in experiment.tasks} for side in SIDES
    }
    by = roots(experiment)
    sources = {
        'plain': trained['source'],
        'metric': {task: measured(a, by) for task, a in trained['source'].items()},
    }
    made: dict[str, dict[str, Adapter]] = {task: {} for task in experiment.tasks}
    for way, adapters in sources.items():
        fitted = mapping.fit(
            'matched_scaled', {t: adapters[t] for t in experiment.anchors},
            {t: trained['target'][t] for t in experiment.anchors},
        )  # fmt: skip
        predicted = fitted.explain_many({t: adapters[t] for t in experiment.heldouts})
        for task, adapter in fitted.left_out().items():
            made[task][way] = adapter
        for task, one in predicted.items():
            made[task][way] = one.adapter
    model, chat = models.load_side(experiment, 'target')
    result: JsonDict = {}
    for role, tasks in (('left out', experiment.anchors), ('held out', experiment.heldouts)):
        scored = Scored()
        for task in tasks:
            file = experiment.files
            path = file.train_data(task) if role == 'left out' else file.eval_data(task)
            rows = examples.read(path)[: _ROWS if role == 'left out' else _ITEMS]
            encoded = examples.encode(chat, rows, experiment.max_len, task)
            adapters = {**made[task], 'oracle': trained['target'][task]}
            scored[task] = forced(model, chat, encoded, adapters)
        result[role] = {way: [scored.gap(way, 0), scored.gap(way, 1)] for way in sources}
    return result


def compare(root: pathlib.Path, names: Sequence[str]) -> None:
    """Prints a row for every world."""
    print('| world | left out, plain: accuracy, NLL | metric | held out, plain | metric |')
    print('| --- | ---: | ---: | ---: | ---: |')
    for name in names:
        found = compared(ladder.world(root, name))
        cells = [
            '{:.3f}, {:.3f}'.format(*found[role][way]) for role in found for way in found[role]
        ]
        print(f'| {name} | ' + ' | '.join(cells) + ' |', flush=True)


def nine(root: pathlib.Path) -> Experiment:
    """Makes base models of nine shifts, and adapters of all their 54 functions.

    Those that have not learned their function are trained anew; see `train_longer`.
    """
    toy = world.World(tuple(range(1, 10)), SPLITS[0])
    directory = root / 'models' / 'nine'
    for side in SIDES:
        if not (directory / side).exists():
            pretrain.write_model(directory / side, side, toy, seed=SPLITS[0], steps=2500)
    heldouts = toy.split()[1]
    experiment = Experiment(
        workdir=str(root / 'nine'), stages=('prepare', 'train'), diagnostics=False,
        source_model=str(directory / 'source'), target_model=str(directory / 'target'),
        anchors=tuple(f.task for f in toy.functions if f not in heldouts),
        heldouts=tuple(f.task for f in heldouts), seed=_SEED,
    )  # fmt: skip
    pipeline.run(experiment)
    for side in SIDES:
        train_longer(experiment, side)
    return experiment


def train_longer(experiment: Experiment, side: str) -> None:
    """Trains the adapters anew whose training ended above `_LEARNED`, three times as long.

    The rule sees the loss of the training alone. Written beside the run.
    """
    lines = map(json.loads, experiment.files.metrics.read_text().splitlines())
    last = [line for line in lines if line['event'] == 'train' and line['side'] == side][-1]
    losses = dict(zip(last['tasks'], last['loss'], strict=True))
    missing = [
        task
        for task, loss in losses.items()
        if loss > _LEARNED and not longer(experiment, side, task).exists()
    ]
    if not missing:
        return
    model, chat = models.load_side(experiment, side)
    config = dataclasses.replace(
        experiment.train_config, num_epochs=3 * experiment.train_config.num_epochs
    )
    encoded = {
        task: examples.encode(
            chat, examples.read(experiment.files.train_data(task)), experiment.max_len, task
        )
        for task in missing
    }
    trained = train_adapters(model, encoded, config, pad_id=chat.pad_id, label=side)
    lora = LoraConfig(rank=config.rank, alpha=config.alpha, targets=config.targets)
    for task, adapter in trained.items():
        save_peft(longer(experiment, side, task), lora, adapter)


def longer(experiment: Experiment, side: str, task: str) -> pathlib.Path:
    """Returns where an adapter lies that was trained anew."""
    return pathlib.Path(f'{experiment.workdir}_longer') / side / task


def load_final(experiment: Experiment, side: str, task: str) -> Adapter:
    """Reads an adapter of a run, the one that was trained anew if there is one."""
    path = longer(experiment, side, task)
    return load_peft(path)[1] if path.exists() else load_trained(experiment, side, task)


class Split(NamedTuple):
    """Adapters of which some are anchors, in the order in which they are drawn.

    Attributes:
      experiment: that trained them.
      heldouts: tasks that are predicted.
      others: all other tasks, shuffled.
    """

    experiment: Experiment
    heldouts: Sequence[str]
    others: Sequence[str]


def of_world(experiment: Experiment) -> Split:
    """Returns the split of a world, its anchors in an order drawn with the world's own seed."""
    order = np.random.default_rng(experiment.seed).permutation(len(experiment.anchors))
    return Split(experiment, experiment.heldouts, [experiment.anchors[i] for i in order])


def of_nine(experiment: Experiment, seed: int) -> Split:
    """Returns one of the splits of all 54 functions."""
    heldouts = [f.task for f in world.World(tuple(range(1, 10)), seed).split()[1]]
    others = [task for task in experiment.tasks if task not in heldouts]
    order = np.random.default_rng(seed).permutation(len(others))
    return Split(experiment, heldouts, [others[i] for i in order])


def reweighted(
    split: Split,
    sides: Sequence[Mapping[str, Adapter]],
    trained: Mapping[str, Mapping[str, Adapter]],
) -> dict[str, Adapter]:
    """Returns what the ladder makes of each held-out with `_PROMPTS` prompts of its kind.

    Args:
      split: whose held-outs climb.
      sides: the anchors' adapters of both models.
      trained: all adapters by side.
    """
    experiment = dataclasses.replace(
        split.experiment, anchors=tuple(sides[0]), heldouts=tuple(split.heldouts)
    )
    loaders = [functools.cache(functools.partial(models.load_side, experiment, s)) for s in SIDES]
    fitted, made = mapping.fit(ladder.METHOD, *sides), {}
    for domain, prompts in ladder.prompts_by_domain(experiment, _PROMPTS).items():
        group = [t for t in split.heldouts if tasks_by_name.get(t).domain == domain]
        sources = {task: trained['source'][task] for task in group}
        reached = rungs.climb(
            *loaders, rungs.Anchors(*sides), sources,
            {task: fitted.predict(adapter) for task, adapter in sources.items()},
            prompts, rungs.Limits(32, experiment.max_len, 8),
        )  # fmt: skip
        made.update({task: one.adapter for task, one in reached.items()})
    return made


def curve(split: Split, counts: Sequence[int], climbs: Sequence[int] = ()) -> JsonDict:
    """Returns shares of the gap, 'oracle' -> [accuracy, NLL], method -> count -> the same.

    Args:
      split: adapters.
      counts: of anchors.
      climbs: those of them from which held-outs also climb the ladder.
    """
    experiment, heldouts, others = split
    trained = {
        side: {t: load_final(experiment, side, t) for t in [*heldouts, *others]} for side in SIDES
    }
    model, chat = models.load_side(experiment, 'target')
    encoded = {
        task: examples.encode(
            chat,
            list(tasks_by_name.get(task).pools(None, 'direct').eval[:_ITEMS]),  # type: ignore[arg-type]
            experiment.max_len,
            task,
        )
        for task in heldouts
    }
    found: JsonDict = {}
    for count in counts:
        sides = [{t: trained[side][t] for t in others[:count]} for side in SIDES]
        made: dict[str, dict[str, Adapter]] = {task: {} for task in heldouts}
        for method in METHODS:
            fitted = mapping.fit(method, *sides, output_rank=16)
            side = mapping.METHODS[method].query_side
            queries = {task: trained[side][task] for task in heldouts}
            for task, one in fitted.explain_many(queries).items():
                made[task][method] = one.adapter
        if count in climbs:
            for task, adapter in reweighted(split, sides, trained).items():
                made[task][_CLIMBED] = adapter
        scored = Scored()
        for task, adapters in made.items():
            oracle = pad_rank(trained['target'][task], 16)
            scored[task] = forced(model, chat, encoded[task], {**adapters, 'oracle': oracle})
        for method in made[heldouts[0]]:
            found.setdefault(method, {})[str(count)] = [scored.gap(method, c) for c in (0, 1)]
        found['lowest oracle'] = min(ways['oracle'][0] for ways in scored.values())
        found['oracle'] = np.mean([ways['oracle'] for ways in scored.values()], axis=0).tolist()
    logging.info('%s: %s', experiment.workdir, found)
    return found


def draw(found: Sequence[JsonDict], path: pathlib.Path) -> None:
    """Prints the mean curves of several splits as a table, with their range, and draws them."""
    counts = list(found[0][METHODS[0]])
    print('| method | ' + ' | '.join(f'{n} anchors' for n in counts) + ' |')
    print('| --- |' + ' ---: |' * len(counts))
    fig, axis = plt.subplots(figsize=(6, 3.6), layout='constrained')
    for method in [*METHODS, *({_CLIMBED} & set(found[0]))]:
        rows = {n: np.array([one[method][n][0] for one in found]) for n in found[0][method]}
        cells = {n: f'{r.mean():.3f} ({r.min():.2f} to {r.max():.2f})' for n, r in rows.items()}
        print(f'| {method} | ' + ' | '.join(cells.get(n, '') for n in counts) + ' |')
        style, means = ':' if method.startswith('span') else '-', [r.mean() for r in rows.values()]
        axis.plot([int(n) for n in rows], means, f'o{style}', label=method)
    print('exact match of the oracles:', [round(one['oracle'][0], 3) for one in found])
    print('lowest of one held-out:', [round(one['lowest oracle'], 3) for one in found])
    axis.set_xscale('log', base=2)
    axis.set_xticks([int(n) for n in counts], counts)
    axis.set_xlabel('anchors')
    axis.set_ylabel('gap recovered, accuracy')
    axis.legend(fontsize=8)
    with io.atomic_file(path) as partial:
        fig.savefig(partial, format='png', dpi=150)
    plt.close(fig)


def main(argv: Sequence[str]) -> None:
    """Prints what is asked for."""
    del argv
    args = flags.FLAGS
    root = pathlib.Path(args.workdir)
    if args.worlds:
        compare(root, args.worlds)
    few = [of_world(ladder.world(root, name)) for name in args.curves]
    if few:
        found = [curve(split, COUNTS) for split in few]
        draw(found, root / 'anchor_curve.png')
    if args.nine:
        experiment = nine(root)
        found = [
            curve(of_nine(experiment, seed), MANY, [int(n) for n in args.climbs]) for seed in SPLITS
        ]
        io.write_json(root / 'anchor_curve.json', found)
        draw(found, root / 'anchor_curve_nine.png')


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'where worlds are kept', required=True)
    flags.DEFINE_list('worlds', [], 'of benchmarks.ladder, with and without the metric')
    flags.DEFINE_list('curves', list(CURVES), 'worlds of benchmarks.ladder to draw curves of')
    flags.DEFINE_list('climbs', ['16', '48'], 'numbers of anchors to climb the ladder from')
    flags.DEFINE_bool('nine', False, 'also the curve of 54 functions, which pretrains two models')
    app.run(main)
