"""A contest of all mappings in toy worlds: `python -m benchmarks.mapping_lab --workdir=DIR`.

Makes the worlds (about a quarter of an hour of one core each; kept, so that a killed call goes on
where it stopped), fits every method on the anchors of each, evaluates the predicted adapters of
the held-outs, and writes `contest.json`, `contest.md` and `contest.png`. Hyperparameters come
from leave-one-out on anchors or are constants. `CHOSEN` was named on other worlds;
docs/results.md says which.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import matplotlib

matplotlib.use('agg')
import matplotlib.pyplot as plt
import numpy as np
from absl import app, flags, logging

from benchmarks import toy_scores, toy_worlds
from benchmarks.toy_scores import gaps
from benchmarks.toy_worlds import Spec
from lorajax import io, mapping
from lorajax.experiment import base_arrays, models
from lorajax.experiment import tasks as tasks_by_name
from lorajax.experiment.adapters import REPEATED, SIDES, load_predicted, load_trained
from lorajax.experiment.config import Experiment
from lorajax.experiment.stages.map import fit_and_predict
from lorajax.lora import load_peft
from lorajax.mapping.subspace import update_cosine
from lorajax.toy import world as toy_world
from lorajax.types import Adapter, JsonDict

WORLDS = (
    Spec('a', (1, 3, 5, 7), 1, 11, 101),
    Spec('b', (2, 4, 6, 8), 2, 21, 102),
    Spec('c', (1, 2, 4, 8), 3, 31, 103),
    Spec('d', (3, 4, 7, 9), 4, 41, 104),
    # The models of a: for shifts 1, 3, 6, 8 the source never learned the skills (seeds 51 and 52),
    # which `toy_worlds.check` refuses.
    Spec('e', (1, 3, 5, 7), 5, 11, 105, separate_init=True),
)
# Named before the contest: one that needs adapters alone, one that also trains on the target.
CHOSEN = ('matched_scaled', 'distilled')
ELSEWHERE = 'distilled_elsewhere'
PLACEBOS = 8  # permutations of the tasks over which the placebo is averaged


def entrants() -> list[str]:
    """Returns who takes part: every method, the trained ones, and the repeated oracle."""
    named = [name for name in mapping.METHODS if name != 'placebo']
    return [*named, *(f'placebo{i}' for i in range(PLACEBOS)), 'distilled', ELSEWHERE, REPEATED]


def predictions(
    experiment: Experiment, names: Sequence[str], rank: int
) -> tuple[dict[str, dict[str, Adapter]], dict[str, JsonDict]]:
    """Lets some entrants predict the held-outs.

    Returns:
      task -> entrant -> target adapter, and entrant -> leave-one-out scores and seconds.
    """
    files = experiment.files

    def load(side: str, tasks: Sequence[str]) -> dict[str, Adapter]:
        return {task: load_peft(files.adapter(side, task))[1] for task in tasks}

    anchors = [mapping.Anchors(load(side, experiment.anchors), side) for side in SIDES]
    for side in anchors:  # shared by all fits, so no method's time contains them
        _ = side.delta_gram, side.factor_gram, side.cosines, side.frame
    queries = {side: mapping.Queries(load(side, experiment.heldouts)) for side in SIDES}
    fitted_names = [name.rstrip('0123456789') for name in names if name not in _TRAINED]
    needs = {need for name in fitted_names for need in mapping.METHODS[name].needs}
    arrays = base_arrays.collect(experiment, needs)
    made: dict[str, dict[str, Adapter]] = {task: {} for task in experiment.heldouts}
    facts: dict[str, JsonDict] = {}
    for name in names:
        logging.info('%s: %s', experiment.workdir, name)
        start = time.monotonic()
        if name in _TRAINED:
            adapters = _TRAINED[name](experiment)
            facts[name] = {'seconds': round(time.monotonic() - start, 2)}
        else:
            method_name = name.rstrip('0123456789')  # placebos are numbered
            seed = experiment.seed + int(name.removeprefix(method_name) or 0)
            method = mapping.METHODS[method_name]
            needed = {need: arrays[need] for need in method.needs}
            fitted = mapping.fit(method_name, *anchors, output_rank=rank, seed=seed, **needed)
            translated = fitted.explain_many(queries[method.query_side])
            adapters = {task: prediction.adapter for task, prediction in translated.items()}
            scores = ('loo_r2', 'loo_cosine', 'fallback')
            facts[name] = {
                'seconds': round(time.monotonic() - start, 2),
                **{key: fitted.diagnostics.get(key) for key in scores},
                'norm_ratio': float(np.mean([p.report['norm_ratio'] for p in translated.values()])),
            }
        for task, adapter in adapters.items():
            made[task][name] = adapter
    return made, facts


def _repeated(experiment: Experiment) -> dict[str, Adapter]:
    """Returns the oracles, trained once more."""
    return {task: load_trained(experiment, REPEATED, task) for task in experiment.heldouts}


def _distil(experiment: Experiment) -> dict[str, Adapter]:
    """Distils the held-outs as a run does."""
    fit_and_predict(dataclasses.replace(experiment, methods=('distilled',), diagnostics=False))
    return {task: load_predicted(experiment, 'distilled', task) for task in experiment.heldouts}


def _distil_elsewhere(experiment: Experiment) -> dict[str, Adapter]:
    """Distils every held-out from prompts of the other domains alone.

    The toy's anchors share prompts with the held-outs of their domain. This leaves those out:
    what the source adapter does has to be learned where it was never trained.
    """
    distilled = {}
    for domain in toy_world.DOMAINS:
        tasks = [task for task in experiment.heldouts if tasks_by_name.get(task).domain == domain]
        others = [task for task in experiment.anchors if tasks_by_name.get(task).domain != domain]
        run = dataclasses.replace(
            experiment,
            workdir=str(experiment.files.root / f'without_{domain}'),
            methods=('distilled',),
            anchors=tuple(others),
            heldouts=tuple(tasks),
            diagnostics=False,
        )
        for name in ('adapters', 'data'):  # the same trained adapters and rows
            link = run.files.root / name
            link.parent.mkdir(exist_ok=True)
            if name == 'data':
                link.mkdir(exist_ok=True)
                link, whole = link / 'train', experiment.files.root / 'data/train'
            else:
                whole = experiment.files.root / name
            if not link.is_symlink():
                link.symlink_to(whole.resolve())
        io.write_json(run.files.config, run.to_json())
        fit_and_predict(run)
        distilled |= {task: load_predicted(run, 'distilled', task) for task in tasks}
    return distilled


_TRAINED: Mapping[str, Callable[[Experiment], dict[str, Adapter]]] = {
    'distilled': _distil,
    ELSEWHERE: _distil_elsewhere,
    REPEATED: _repeated,
}


def contest(root: pathlib.Path, spec: Spec, items: int, rank: int) -> JsonDict:
    """Makes a world if need be and scores the entrants that have no scores in it yet."""
    experiment = toy_worlds.make(root, spec)
    stored = experiment.files.root / f'scores_{items}_{rank}.json'
    result: JsonDict = {'world': spec.name, 'separate': spec.separate_init, 'facts': {}}
    result['tasks'] = {task: {'methods': {}, 'cosines': {}} for task in experiment.heldouts}
    if stored.exists():
        result = io.read_json(stored)
    missing = [name for name in entrants() if name not in result['facts']]
    if not missing:
        return result
    result.setdefault('trained', toy_worlds.check(experiment, items))
    made, facts = predictions(experiment, missing, rank)
    loaded = models.load_side(experiment, 'target')
    scored = toy_scores.of_heldouts(loaded, experiment, made, items, adapters_per_step=12)
    for task, adapters in made.items():
        oracle = load_trained(experiment, 'target', task)
        kept = result['tasks'][task]
        kept['methods'] |= scored[task]['methods']
        kept['cosines'] |= {name: update_cosine(oracle, a) for name, a in adapters.items()}
    result['facts'] |= facts
    io.write_json(stored, result)
    return result


def averaged(world: JsonDict) -> JsonDict:
    """Returns a world's results with the mean of its placebos in place of each."""
    names = [f'placebo{i}' for i in range(PLACEBOS)]
    facts = {name: value for name, value in world['facts'].items() if name not in names}
    tasks = {}
    for task, result in world['tasks'].items():
        methods = dict(result['methods'])
        methods['placebo'] = np.mean([methods.pop(name) for name in names], axis=0).tolist()
        tasks[task] = {**result, 'methods': methods}
    return {**world, 'facts': {**facts, 'placebo': world['facts'][names[0]]}, 'tasks': tasks}


def table(worlds: Sequence[JsonDict]) -> str:
    """Returns the contest as a Markdown table, best accuracy first."""
    names = list(worlds[0]['facts'])
    ranked = sorted(names, key=lambda name: -gaps(worlds, name, 0)[0])
    heads = [f'{w["world"]}{" (separate A)" if w["separate"] else ""}' for w in worlds]
    lines = [
        '| method | gap recovered, accuracy | gap recovered, NLL | '
        + ' | '.join(heads) + ' | leave-one-out R2 | s |',
        '| --- | --- | --- |' + ' ---: |' * (len(heads) + 2),
    ]  # fmt: skip
    for name in ranked:
        cells = toy_scores.cells(worlds, name)
        cells += [f'{gaps([world], name, 0)[0]:.3f}' for world in worlds]
        facts = [world['facts'].get(name, {}) for world in worlds]
        known = [f['loo_r2'] for f in facts if f.get('loo_r2') is not None]
        cells.append(f'{np.mean(known):.3f}' if known else '')
        seconds = [f['seconds'] for f in facts if 'seconds' in f]
        cells.append(f'{np.mean(seconds):.1f}' if seconds else '')
        title = f'**{name}**' if name in CHOSEN else name
        lines.append(f'| {title} | ' + ' | '.join(cells) + ' |')
    lines.append('')
    for world in worlds:
        tasks = world['tasks'].values()
        cosines = ', '.join(
            f'{name} {np.mean([task["cosines"][name] for task in tasks]):.3f}'
            for name in (REPEATED, *CHOSEN)
        )
        lines.append(f'World {world["world"]}: cosine with the oracle of {cosines}.')
    return '\n'.join(lines) + '\n'


def figure(worlds: Sequence[JsonDict], path: pathlib.Path) -> None:
    """Draws pooled shares with intervals, and each world as a dot."""
    names = sorted(worlds[0]['facts'], key=lambda name: gaps(worlds, name, 0)[0])
    fig, axis = plt.subplots(figsize=(7.5, 0.26 * len(names) + 1.2), layout='constrained')
    for place, name in enumerate(names):
        value, low, high = gaps(worlds, name, 0)
        colour = 'tab:orange' if name in CHOSEN else 'tab:blue'
        axis.plot([low, high], [place, place], color=colour, linewidth=2)
        axis.plot(value, place, 'o', color=colour)
        for world in worlds:
            mark = 'x' if world['separate'] else '.'
            axis.plot(gaps([world], name, 0)[0], place, mark, color='grey', markersize=4)
    axis.axvline(0.8, color='grey', linewidth=0.8, linestyle=':')
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_xlabel('gap recovered (exact match); grey: single worlds, x: separate factors')
    with io.atomic_file(path) as partial:
        fig.savefig(partial, format='png', dpi=150)
    plt.close(fig)


def main(argv: Sequence[str]) -> None:
    """Runs the contest."""
    del argv
    args = flags.FLAGS
    root = pathlib.Path(args.workdir)
    chosen = [spec for spec in WORLDS if spec.name in args.worlds]
    worlds = []
    for spec in chosen:
        logging.info('world %s', spec.name)
        worlds.append(averaged(contest(root, spec, args.items, args.output_rank)))
    io.write_json(root / 'contest.json', worlds)
    text = table(worlds)
    io.write_text(root / 'contest.md', text)
    figure(worlds, root / 'contest.png')
    print(text)


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'where worlds and results go', required=True)
    flags.DEFINE_list('worlds', [spec.name for spec in WORLDS], 'which worlds take part')
    flags.DEFINE_integer('items', 100, 'evaluation items of each held-out', lower_bound=1)
    flags.DEFINE_integer('output_rank', 16, 'of every prediction', lower_bound=1)
    app.run(main)
