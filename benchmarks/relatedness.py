"""Which way of translating is right when the target is a near or a far relative of the source.

    python -m benchmarks.relatedness --workdir=DIR [--seeds=0,1]

In the toy world, Y is X itself; X pretrained on for 5, 25 and 100 % of its steps, on its own
functions and as many new ones; a model of X's shape from another seed; and one of another family,
width and depth. On each rung of this ladder 22 adapters are trained on both models, and copying,
maps of base weights and activations, maps from adapters, reweighting and distillation are scored
beside them. Two similarities of the base models stand beside the scores: which of them tells the
right way? The advice of `lorajax.mapping.advice` is held against the best way on each rung. What is
finished is kept. Both models of another shape that ship with the package are those of seed 0.
Writes `relatedness.json`, `relatedness.md` and `relatedness.png`.
"""

import functools
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence

import jax
import matplotlib

matplotlib.use('agg')
import matplotlib.pyplot as plt
import numpy as np
from absl import app, flags, logging

from lorajax import io, toy
from lorajax.experiment import base_arrays, pipeline
from lorajax.experiment.config import Experiment
from lorajax.mapping import advice, similarity
from lorajax.models import load_model
from lorajax.toy import pretrain
from lorajax.toy.world import DEFAULT, World
from lorajax.types import JsonDict, Params

STEPS = 1500  # of pretraining a model from fresh weights
_BATCH, _PEAK = 128, 3e-3
# The world's own functions and as many new ones: who goes on with these learns, and forgets little.
_WIDER = World(shifts=(1, 2, 3, 4, 5, 6, 7, 8))
COPYING = 'pad_truncate'  # of two models of one shape: the source's adapter as it is
METHODS = (
    COPYING, 'mean', 'nearest', 'cross_lora', 'theseus', 'matched_scaled', 'reweighted',
    'distilled',
)  # fmt: skip
_SHOWN = (*METHODS, 'placebo')  # the map of permuted tasks
_NAMES = ('copying', *_SHOWN[1:])
_SCORED = ('base', 'oracle', *_SHOWN)
_DRAWS = 4000


# What there is besides the models -> ways that it opens, and what advice is told of it.
_AT_HAND: Mapping[str, tuple[tuple[str, ...], JsonDict]] = {
    'nothing': ((COPYING, 'cross_lora', 'theseus'), {}),
    '16 pairs': (('mean', 'nearest', 'matched_scaled'), {'anchors': 16}),
    '32 prompts': (('reweighted',), {'prompts': 32}),
    'a training': (('distilled',), {'can_train': True}),
}
_MADE_BY = {
    advice.COPY: COPYING, advice.MAP: 'matched_scaled', advice.REWEIGHTED: 'reweighted',
    advice.DISTILLED: 'distilled', advice.TRAIN: 'base',
}  # fmt: skip


def _continued(share: float, source: Params, seed: int) -> Params:
    """Returns the source after some more pretraining."""
    config, steps = pretrain.CONFIGS['source'], round(share * STEPS)
    if not steps:
        return source
    return pretrain.pretrain(config, _WIDER, seed, steps, _BATCH, _PEAK, start=source)


def _fresh(side: str, source: Params, seed: int) -> Params:
    """Returns a model from other weights; the source has no part in it."""
    del source
    return pretrain.pretrain(pretrain.CONFIGS[side], DEFAULT, seed, STEPS, _BATCH, _PEAK)


# Nearest first: name -> (shapes of the target, its weights from the source's and a seed).
RUNGS: Mapping[str, tuple[str, Callable[[Params, int], Params]]] = {
    'itself': ('source', functools.partial(_continued, 0.0)),
    '5 % more': ('source', functools.partial(_continued, 0.05)),
    '25 % more': ('source', functools.partial(_continued, 0.25)),
    '100 % more': ('source', functools.partial(_continued, 1.0)),
    'other seed': ('source', functools.partial(_fresh, 'source')),
    'other shape': ('target', functools.partial(_fresh, 'target')),
}


def source_model(root: pathlib.Path, seed: int) -> pathlib.Path:
    """Returns where the source of a seed lies; that of seed 0 ships with the package.

    It is copied, since a run that goes on must find its models where they were.
    """
    directory = root / f'seed{seed}' / 'source'
    if not directory.exists() and seed == 0:
        shutil.copytree(toy.MODELS['toy-source'], directory)
    elif not directory.exists():
        logging.info('seed %d: pretraining the source', seed)
        pretrain.save(directory, pretrain.CONFIGS['source'], _fresh('source', {}, 7919 * seed))
    return directory


def _reuse_source(root: pathlib.Path, seed: int, run: pathlib.Path) -> None:
    """Copies the adapters of the source, the same on all rungs of a seed, from one that has them.

    A run trains what it lacks, so a copy that was cut off would do no harm but be refused.
    """
    there = run / 'adapters' / 'source'
    done = sorted((root / f'seed{seed}').glob('*.json'))  # written when a rung is finished
    if done and not there.exists():
        shutil.copytree(done[0].with_suffix('') / 'run' / 'adapters' / 'source', there)


def experiment_of(root: pathlib.Path, seed: int, rung: str) -> Experiment:
    """Makes the target of a rung unless it is there; returns the run, not begun."""
    source = source_model(root, seed)
    place = root / f'seed{seed}' / rung.replace(' %', '').replace(' ', '_')
    target = place / 'target'
    shapes, make = RUNGS[rung]
    if not target.exists() and (seed, rung) == (0, 'other shape'):
        shutil.copytree(toy.MODELS['toy-target'], target)
    elif not target.exists():
        logging.info('seed %d, %s: making the target', seed, rung)
        params = jax.tree.map(jax.numpy.array, load_model(str(source)).params)
        pretrain.save(target, pretrain.CONFIGS[shapes], make(params, 7919 * seed + 104729))
    return Experiment(
        workdir=str(place / 'run'),
        source_model=str(source),
        target_model=str(target),
        methods=METHODS,
        experiments=('1',),
        eval_per_task=100,
        seed=seed,
    )


def measure(root: pathlib.Path, seed: int, rung: str) -> JsonDict:
    """Runs a rung and returns its scores and similarities, unless that is done."""
    stored = root / f'seed{seed}' / f'{rung.replace(" %", "").replace(" ", "_")}.json'
    if stored.exists():
        return io.read_json(stored)
    experiment = experiment_of(root, seed, rung)
    _reuse_source(root, seed, experiment.files.root)
    pipeline.run(experiment)
    arrays = base_arrays.collect(experiment, ('source_weights', 'source_inputs'))
    result = {
        'seed': seed,
        'rung': rung,
        'weight_cosine': _number(
            similarity.weight_cosine(arrays['source_weights'], arrays['target_weights'])
        ),
        'activation_cka': similarity.activation_cka(
            arrays['source_inputs'], arrays['target_inputs']
        ),
        'rows': [{'task': task, **_accuracy(experiment, task)} for task in experiment.heldouts],
    }
    io.write_json(stored, result)
    return result


def _accuracy(experiment: Experiment, task: str) -> dict[str, float]:
    """Returns the share of right answers to a held-out by method."""
    verdicts: dict[str, list[bool]] = {name: [] for name in _SCORED}
    for row in io.read_jsonl(experiment.files.outcomes(task)):
        if row['method'] in verdicts:
            verdicts[row['method']].append(row['correct'])
    return {name: float(np.mean(known)) for name, known in verdicts.items()}


def _number(value: float) -> float | None:
    """NaN as JSON has it."""
    return None if np.isnan(value) else value


def gap(results: Sequence[JsonDict], method: str) -> float:
    """Returns the share of the oracles' gain that a method has, pooled over tasks and seeds."""
    gains = np.concatenate([_gains(result, method) for result in results]).sum(0)
    return float(gains[0] / gains[1])


def _gains(result: JsonDict, method: str) -> np.ndarray:
    """Returns float[tasks, 2], what the method and the oracle gain over the base."""
    return np.array(
        [[row[method] - row['base'], row['oracle'] - row['base']] for row in result['rows']]
    )


def interval(results: Sequence[JsonDict], method: str) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of `gap`: seeds are drawn again, and tasks in each."""
    rng = np.random.default_rng(0)
    known = [_gains(result, method) for result in results]
    shares = []
    for _ in range(_DRAWS):
        drawn = [known[i] for i in rng.integers(len(known), size=len(known))]
        total = sum(gains[rng.integers(len(gains), size=len(gains))].sum(0) for gains in drawn)
        shares.append(total[0] / total[1])
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


def regret(results: Sequence[JsonDict]) -> dict[tuple[str, str], float]:
    """Returns by how much the best way at hand beats the one advised, by rung and what there is."""
    found = {}
    for rung in dict.fromkeys(result['rung'] for result in results):
        here = [result for result in results if result['rung'] == rung]
        cosines = [r['weight_cosine'] for r in here if r['weight_cosine'] is not None]
        known = advice.Known(weight_cosine=float(np.mean(cosines)) if cosines else np.nan)
        at_hand = ['base']
        for what, (methods, more) in _AT_HAND.items():
            at_hand += methods
            known = known._replace(**more)
            chosen = _MADE_BY[advice.advise(known).rung]
            best = max(gap(here, method) for method in at_hand)
            found[rung, what] = best - gap(here, chosen)
    return found


def table(results: Sequence[JsonDict]) -> str:
    """Returns a Markdown table, one column a rung, with intervals over seeds and tasks."""
    by_rung = {rung: here for rung in RUNGS if (here := [r for r in results if r['rung'] == rung])}
    lines = ['| Y is X ... | ' + ' | '.join(by_rung) + ' |', '| --- |' + ' --- |' * len(by_rung)]

    def line(name: str, cell: Callable[[Sequence[JsonDict]], str]) -> None:
        lines.append(f'| {name} | ' + ' | '.join(map(cell, by_rung.values())) + ' |')

    line('weight cosine', lambda here: _mean([r['weight_cosine'] for r in here]))
    line('CKA', lambda here: _mean([r['activation_cka'] for r in here]))
    for name in ('base', 'oracle'):
        line(name, lambda here, n=name: _mean([row[n] for r in here for row in r['rows']]))
    for name, method in zip(_NAMES, _SHOWN, strict=True):
        line(name, lambda here, m=method: '{:.3f} [{:.2f}, {:.2f}]'.format(
            gap(here, m), *interval(here, m)))  # fmt: skip
    return '\n'.join(lines) + '\n'


def _mean(values: Sequence[float | None]) -> str:
    """Writes the mean of what is known."""
    known = [value for value in values if value is not None]
    return f'{np.mean(known):.3f}' if known else 'none'


def draw(path: pathlib.Path, results: Sequence[JsonDict]) -> None:
    """Draws the gap that each way recovers over the rungs, a thin line a seed."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout='constrained')
    rungs = [rung for rung in RUNGS if any(r['rung'] == rung for r in results)]
    for index, method in enumerate(_SHOWN):
        colour = f'C{index}'
        for seed in sorted({r['seed'] for r in results}):
            known = {r['rung']: gap([r], method) for r in results if r['seed'] == seed}
            axes.plot(
                [x for x, rung in enumerate(rungs) if rung in known],
                [known[rung] for rung in rungs if rung in known],
                color=colour, alpha=0.3, linewidth=1,
            )  # fmt: skip
        pooled = [gap([r for r in results if r['rung'] == rung], method) for rung in rungs]
        axes.plot(range(len(rungs)), pooled, 'o-', color=colour, label=_NAMES[index])
    axes.set_xticks(range(len(rungs)), rungs)
    axes.set_ylim(-0.3, 1.08)
    axes.set_ylabel('gap recovered')
    axes.set_xlabel('the target is the source ...')
    axes.set_title('Copies fade fast, maps differ by seed (thin), answers of the source last')
    axes.legend(ncols=4, fontsize=8, loc='lower center')
    figure.savefig(path, dpi=90)


def main(argv: Sequence[str]) -> None:
    """Measures what is missing; prints and writes the table."""
    del argv
    root = pathlib.Path(flags.FLAGS.workdir)
    results: list[JsonDict] = []
    for seed in map(int, flags.FLAGS.seeds):
        for rung in flags.FLAGS.rungs:
            results.append(measure(root, seed, rung))
            io.write_json(root / 'relatedness.json', results)
            io.write_text(root / 'relatedness.md', table(results))
            draw(root / 'relatedness.png', results)
    print(table(results))
    for seed in sorted({result['seed'] for result in results}):
        of_seed = [result for result in results if result['seed'] == seed]
        print(f'seed {seed}', table(of_seed), sep='\n\n')
        for (rung, what), lost in regret(of_seed).items():
            print(f'{rung}, {what}: the advice is {lost:.3f} below the best way')


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'what is made stays here', required=True)
    flags.DEFINE_list('seeds', ['0', '1'], 'of the models; source 0 is the shipped one')
    flags.DEFINE_multi_enum('rungs', list(RUNGS), list(RUNGS), 'which to measure')
    app.run(main)
