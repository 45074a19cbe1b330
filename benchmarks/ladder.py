"""What every rung is worth in toy worlds: `python -m benchmarks.ladder --workdir=DIR`.

Makes the worlds that are missing (the demo's from the shipped models), translates the held-outs by
the default map, climbs with 8 and 32 prompts of the task's own kind, of all kinds, of both other
kinds and of one of them alone, and scores all of them beside the bare target and the oracle.
Prompts are rows on which the held-out's adapters were not trained; nobody reads their answers.
Scores are kept, so a killed call goes on where it stopped. Writes `ladder.json` and `ladder.md`.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import app, flags, logging

from benchmarks import toy_worlds
from benchmarks.mapping_lab import check_world, gaps
from benchmarks.toy_worlds import Spec
from lorajax import io, mapping
from lorajax.distillation import ladder
from lorajax.evaluation import evaluate as evaluation
from lorajax.experiment import models, pipeline
from lorajax.experiment import tasks as tasks_by_name
from lorajax.experiment.adapters import SIDES, load_predicted, load_trained
from lorajax.experiment.config import Experiment
from lorajax.experiment.stages.map import fit_and_predict
from lorajax.tasks import examples
from lorajax.toy import world as toy_world
from lorajax.types import Adapter, JsonDict


def on_shipped_models(split_seed: int, **settings: Any) -> Experiment:
    """Returns a run of other anchors, held-outs and adapters on the shipped models."""
    anchors, heldouts = toy_world.World(split_seed=split_seed).split()
    return Experiment(
        anchors=tuple(function.task for function in anchors),
        heldouts=tuple(function.task for function in heldouts),
        **settings,
    )


# Seeds of f, g and h are the digits of commit c29244dc563c57ee4104d061, four at a time, which froze
# code and constants before there were these worlds.
WORLDS: Mapping[str, Experiment | Spec] = {
    'demo': Experiment(),
    'f': on_shipped_models(split_seed=0xC292, seed=0x44DC),
    'g (separate A)': on_shipped_models(split_seed=0x563C, seed=0x57EE, separate_init=True),
    'h': Spec('h', (1, 2, 4, 8), split_seed=0x4104, model_seed=0xD061, seed=0x4104),
    # Those of i to n are the digits of commit a4154019733884760b93c3fb15434bd15d842d98 in the same
    # way, which froze the rule of trust.
    'm': on_shipped_models(split_seed=0x5D84, seed=0x2D98),
    'i': Spec('i', (1, 3, 5, 7), split_seed=0xA415, model_seed=0x4019, seed=0xA415),
    'j': Spec('j', (2, 4, 6, 8), split_seed=0x7338, model_seed=0x8476, seed=0x7338),
    'n (separate A)': on_shipped_models(split_seed=0x2D98, seed=0x5D84, separate_init=True),
    # Those of o to q are digits of commit e29adc1600a6233ad5a343fb77488986311ccc44, which added the
    # other six and changed nothing else.
    'o': on_shipped_models(split_seed=0xE29A, seed=0xDC16),
    'p (separate A)': on_shipped_models(split_seed=0x00A6, seed=0x233A, separate_init=True),
    'q': on_shipped_models(split_seed=0xD5A3, seed=0x43FB),
    # Digits of commit 43caf91086a4, when the other worlds on shipped models were done.
    'r': on_shipped_models(split_seed=0x43CA, seed=0xF910),
    # Those of s to v are digits of commit c64720597aad7d240fab173a3099719c89bf62a0, in which the
    # rung has twice the anchors' rank.
    's': on_shipped_models(split_seed=0xC647, seed=0x2059),
    't (separate A)': on_shipped_models(split_seed=0x7AAD, seed=0x7D24, separate_init=True),
    'u': on_shipped_models(split_seed=0x0FAB, seed=0x173A),
    'v': Spec('v', (1, 3, 6, 8), split_seed=0x3099, model_seed=0x719C, seed=0x3099),
    # Those of w to y are digits of commit 1f06f4496d917fd978a773f297de83bd10d86a97, which trusts
    # prompts one by one.
    'w': on_shipped_models(split_seed=0x1F06, seed=0xF449),
    'x (separate A)': on_shipped_models(split_seed=0x6D91, seed=0x7FD9, separate_init=True),
    'y': on_shipped_models(split_seed=0x78A7, seed=0x73F2),
    'k': Spec('k', (3, 4, 7, 9), split_seed=0x0B93, model_seed=0xC3FB, seed=0x0B93),
    'l (separate A)': Spec(
        'l', (1, 2, 4, 8), split_seed=0x1543, model_seed=0x4BD1, seed=0x1543, separate_init=True
    ),
}
METHOD = 'matched_scaled'
KINDS = ('own', 'mixed', 'other', 'one other')
COUNTS = (8, 32)
TRAINED = 'distilled from own, 32'
LABELS = 8
_ITEMS = 100
_DRAWS = 2000


def world(root: pathlib.Path, name: str) -> Experiment:
    """Makes a world if need be; a killed call goes on where it stopped."""
    made = WORLDS[name]
    if isinstance(made, Spec):
        made = toy_worlds.pretrain_missing(root, made)
    experiment = dataclasses.replace(
        made, workdir=str(root / name.split()[0]), stages=('prepare', 'train'), diagnostics=False
    )
    pipeline.run(experiment)
    return experiment


def prompts_by_domain(experiment: Experiment, count: int) -> dict[str, list[str]]:
    """Returns prompts of every domain on which no held-out's adapter of it was trained."""
    prompts = {}
    for task in experiment.heldouts:
        domain = tasks_by_name.get(task).domain
        seen = {
            row.prompt
            for other in experiment.heldouts
            if tasks_by_name.get(other).domain == domain
            for row in examples.read(experiment.files.train_data(other))
        }
        rows = tasks_by_name.get(task).pools(None, 'direct').train
        prompts[domain] = [row.prompt for row in rows if row.prompt not in seen][:count]
    return prompts


def chosen(by_domain: Mapping[str, Sequence[str]], own: str, kind: str, count: int) -> list[str]:
    """Returns prompts of a kind, as seen from one domain, the domains in turn."""
    others = sorted(set(by_domain) - {own})
    domains = {
        'own': [own], 'mixed': sorted(by_domain), 'other': others,
        'one other': [d for d in others if d > own][:1] or others[:1],
    }[kind]  # fmt: skip
    return [by_domain[domains[i % len(domains)]][i // len(domains)] for i in range(count)]


Adapters = dict[str, Adapter]  # by task


def translated(experiment: Experiment) -> tuple[list[Adapters], Adapters, Adapters]:
    """Returns the anchors of both sides, the held-outs' source adapters and their translations."""
    sides = [
        {task: load_trained(experiment, side, task) for task in experiment.anchors}
        for side in SIDES
    ]
    fitted = mapping.fit(METHOD, *sides)
    sources = {task: load_trained(experiment, 'source', task) for task in experiment.heldouts}
    start = {task: fitted.predict(adapter) for task, adapter in sources.items()}
    return sides, sources, start


def climbed(
    experiment: Experiment, kinds: Sequence[str], with_training: bool
) -> tuple[dict[str, dict[str, Adapter]], dict[str, JsonDict]]:
    """Climbs with every kind and number of prompts; with a training and with labels if asked for.

    Returns:
      task -> way -> target adapter, and way -> what was noted: seconds, losses and rungs.
    """
    sides, sources, start = translated(experiment)
    made: dict[str, dict[str, Adapter]] = {task: {'map': start[task]} for task in sources}
    facts: dict[str, JsonDict] = {'map': {}}
    loaders = [functools.partial(_loaded, experiment, side) for side in SIDES]
    by_domain = prompts_by_domain(experiment, max(COUNTS))

    def climb(way: str, group: Sequence[str], prompts: Sequence[str], **options: object) -> None:
        begin = time.monotonic()
        reached = ladder.climb(
            *loaders, ladder.Anchors(*sides),
            {task: sources[task] for task in group}, {task: start[task] for task in group},
            prompts, ladder.Limits(32, experiment.max_len, 8), **options,
        )  # fmt: skip
        fact = facts.setdefault(way, dict(seconds=0.0, rungs={}, losses={}, floors={}, learned={}))
        fact['seconds'] += time.monotonic() - begin
        for task, one in reached.items():
            made[task][way] = one.adapter
            fact['rungs'][task], fact['losses'][task] = one.rung, dict(one.losses)
            fact['floors'][task] = one.floor
            fact['learned'][task] = one.learned

    for domain in sorted(by_domain):
        group = [t for t in sources if tasks_by_name.get(t).domain == domain]
        for kind in kinds:
            for count in COUNTS:
                climb(f'{kind}, {count}', group, chosen(by_domain, domain, kind, count))
        if with_training:
            climb(
                TRAINED, group, chosen(by_domain, domain, 'own', 32),
                training=dataclasses.replace(experiment.train_config, num_epochs=30),
            )  # fmt: skip
    for task in sources if with_training else ():
        rows = examples.read(experiment.files.train_data(task))[:LABELS]

        def labelled(chat, rows=rows, task=task):  # type: ignore[no-untyped-def]
            return examples.encode(chat, rows, experiment.max_len, task)

        climb(f'few-shot, {LABELS} labels', [task], (), examples=labelled)
    return made, facts


@functools.cache
def _loaded(experiment: Experiment, side: str):  # type: ignore[no-untyped-def]
    """Loads a model once for all climbs."""
    return models.load_side(experiment, side)


def scores(
    root: pathlib.Path,
    name: str,
    kinds: Sequence[str],
    with_training: bool,
    with_distilled: bool,
) -> JsonDict:
    """Makes a world, climbs in it and scores the results, unless that is done."""
    stored = root / f'ladder_{name.split()[0]}.json'
    if stored.exists():
        return io.read_json(stored)
    experiment = world(root, name)
    result: JsonDict = {'world': name, 'trained': check_world(experiment, _ITEMS), 'tasks': {}}
    made, result['facts'] = climbed(experiment, kinds, with_training)
    if with_distilled:
        run = dataclasses.replace(experiment, methods=('distilled',), diagnostics=False)
        fit_and_predict(run)
        for task in made:
            made[task]['distilled from 800 of 1600'] = load_predicted(run, 'distilled', task)
    model, chat = models.load_side(experiment, 'target')
    for task, adapters in made.items():
        oracle = load_trained(experiment, 'target', task)
        rows = evaluation.evaluate(
            model, chat, tasks_by_name.get(task),
            examples.read(experiment.files.eval_data(task))[:_ITEMS],
            {'base': None, **adapters, 'oracle': oracle},
            batch_size=_ITEMS, max_len=experiment.max_len, max_new_tokens=8,
        )  # fmt: skip
        values: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            values.setdefault(row['method'], []).append((row['correct'], row['nll']))
        result['tasks'][task] = {
            'methods': {way: np.mean(pairs, 0).tolist() for way, pairs in values.items()}
        }
    io.write_json(stored, result)
    return result


def over_worlds(worlds: Sequence[JsonDict], way: str, column: int) -> list[float]:
    """Returns the pooled share of the gap and its 95 % interval over worlds.

    Worlds are drawn again, and held-outs within each: what another world would give is less
    certain than what other held-outs of these would.

    Args:
      worlds: results of `scores`.
      way: of reaching an adapter.
      column: 0 for accuracy, 1 for nats per answer token.
    """
    rows = np.array([
        [[task['methods'][who][column] for who in ('base', way, 'oracle')]
         for task in world['tasks'].values()]
        for world in worlds
    ])  # fmt: skip
    rng = np.random.default_rng(0)

    def ratio(chosen: np.ndarray) -> float:
        base, found, oracle = chosen.reshape(-1, 3).sum(0)
        return float((found - base) / (oracle - base))

    count, tasks = rows.shape[:2]
    draws = []
    for _ in range(_DRAWS):
        drawn = rows[rng.integers(count, size=count)]
        draws.append(ratio(np.stack([w[rng.integers(tasks, size=tasks)] for w in drawn])))
    return [ratio(rows), *np.quantile(draws, [0.025, 0.975]).tolist()]


def table(worlds: Sequence[JsonDict]) -> str:
    """Returns pooled shares of the gap as a Markdown table, one column a world.

    Intervals are over worlds; see `over_worlds`.
    """
    ways = [w for w in next(iter(worlds[0]['tasks'].values()))['methods']
            if w not in ('base', 'oracle')]  # fmt: skip
    heads = [world['world'] for world in worlds]
    lines = [
        '| rung, prompts | gap recovered, accuracy | gap recovered, NLL | ' + ' | '.join(heads)
        + ' | s an adapter |',
        '| --- | --- | --- |' + ' ---: |' * (len(heads) + 1),
    ]  # fmt: skip
    for way in ways:
        known = [w for w in worlds if all(way in t['methods'] for t in w['tasks'].values())]
        cells = ['{:.3f} [{:.3f}, {:.3f}]'.format(*over_worlds(known, way, c)) for c in (0, 1)]
        cells += [f'{gaps([w], way, 0)[0]:.3f}' if w in known else '' for w in worlds]
        seconds = [
            w['facts'][way]['seconds'] / len(w['tasks'])
            for w in known
            if 'seconds' in w['facts'].get(way, {})
        ]
        cells.append(f'{np.mean(seconds):.1f}' if seconds else '')
        lines.append(f'| {way} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def main(argv: Sequence[str]) -> None:
    """Prints and writes the table."""
    del argv
    args = flags.FLAGS
    root = pathlib.Path(args.workdir)
    worlds = []
    for name in args.worlds:
        logging.info('world %s', name)
        worlds.append(scores(root, name, args.kinds, args.training, args.distilled))
        io.write_json(root / 'ladder.json', worlds)
        text = table(worlds)
        io.write_text(root / 'ladder.md', text)
        print(text, flush=True)


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'where worlds and scores are kept', required=True)
    flags.DEFINE_list('worlds', list(WORLDS), 'which worlds')
    flags.DEFINE_list('kinds', list(KINDS), 'of prompts')
    flags.DEFINE_bool('training', True, 'also train on 32 answers, and fit to labels')
    flags.DEFINE_bool('distilled', True, 'also distil as a run does, a training of 100 steps')
    app.run(main)
