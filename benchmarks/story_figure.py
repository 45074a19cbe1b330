"""Draws what of a style arrives: `python -m benchmarks.story_figure --runs=DIR[,...] --figure=PNG`.

One colour a run of launch/stories.flags or its like, over the held-outs whose styles combine parts;
the share of texts in the whole style beside the share of the gap in loss, with 95 % intervals over
held-outs and items. Methods that a run lacks are left out there.
"""

import pathlib
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use('agg')
import matplotlib.pyplot as plt
import numpy as np
from absl import app, flags

from benchmarks import stories
from benchmarks.text_worlds import experiment_of
from lorajax.evaluation import intervals
from lorajax.stories.tasks import TASKS

_METHODS = {
    'base': 'base',
    'mean': 'mean',
    'nearest': 'nearest',
    'global_ridge': 'global_ridge',
    'matched_ridge': 'matched_ridge',
    'matched_scaled': 'matched_scaled',
    'placebo': 'placebo',
    'span_oracle_tensor': 'span oracle',
    'reweighted, 32': 'reweighted, 32 prompts',
    'trained, 32': 'trained on 32 prompts',
    'distilled': 'distilled',
    'oracle': 'own adapter',
}


def label(workdir: pathlib.Path) -> str:
    """Returns what tells a run from others: its models and how many anchors it has."""
    experiment = experiment_of(workdir)
    source, target = (
        pathlib.Path(name).name for name in (experiment.source_model, experiment.target_model)
    )
    return f'{source} to {target}, {len(experiment.anchors)} anchors'


def measured(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns method -> float[draws + 1, 2] over the combined styles, see `stories.draws`."""
    found = stories.read(workdir)
    return stories.draws(
        stories.scores({t: by for t, by in found.items() if TASKS[t].domain != 'other'})
    )


def draw(path: pathlib.Path, runs: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Draws two panels, one line a method."""
    methods = [name for name in _METHODS if any(name in drawn for drawn in runs.values())]
    figure, panels = plt.subplots(
        1, 2, figsize=(9, 0.35 * len(methods) + 1.6), sharey=True, layout='constrained'
    )
    titles = (1, 'texts in the whole style'), (0, 'gap recovered in loss')
    for axes, (column, title) in zip(panels, titles, strict=True):
        for index, (name, drawn) in enumerate(runs.items()):
            mine = [i for i, method in enumerate(methods) if method in drawn]
            values = [drawn[methods[i]][:, column] for i in mine]
            centres = np.array([value[0] for value in values])
            bars = abs(np.array([intervals.percentiles(v[1:]) for v in values]).T - centres)
            heights = np.array(mine) + 0.18 * (index - (len(runs) - 1) / 2)
            axes.errorbar(centres, heights, xerr=bars, fmt='o', markersize=4, capsize=2, label=name)
        for edge in (0, 1):
            axes.axvline(edge, color='grey', linewidth=0.5)
        axes.set_xlabel(title)
        axes.set_xlim(-0.05, 1.05)
    panels[0].set_yticks(range(len(methods)), [_METHODS[name] for name in methods])
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc='outside upper center', ncols=2)
    figure.savefig(path, dpi=90)


def main(argv: Sequence[str]) -> None:
    """Reads the runs and draws them."""
    del argv
    runs = {label(d): measured(d) for d in map(pathlib.Path, flags.FLAGS.runs)}
    draw(pathlib.Path(flags.FLAGS.figure), runs)


if __name__ == '__main__':
    flags.DEFINE_list('runs', None, 'their directories', required=True)
    flags.DEFINE_string('figure', None, 'where it is drawn', required=True)
    app.run(main)
