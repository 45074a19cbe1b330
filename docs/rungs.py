"""Draws docs/rungs.png, the picture of the README: `python docs/rungs.py`.

Every number stands in docs/results.md: 'contest' is the pooled column of the contest of mappings
(five toy worlds, 30 held-outs, bootstrap over held-outs), in the rows of 8 and 32 prompts that of
the ladder's 15 worlds but the demo's; 'demo' is the toy run. Both are shares of the gap: 0 is the
base model without an adapter, 1 an adapter retrained on the target.
"""

import pathlib

from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# What is done, by what it needs; (value, low, high) in the contest and in the demo.
ROWS = (
    ('base weights alone\n(Cross-LoRA)', (-0.000, -0.005, 0.006), None),
    ("mean of the anchors' adapters", (-0.015, -0.030, -0.004), (0.003, -0.001, 0.006)),
    ('map of Round 4\n(global_ridge)', (0.239, 0.146, 0.338), (0.333, 0.311, 0.355)),
    ('map of lorajax\n(matched_scaled)', (0.519, 0.410, 0.634), (0.902, 0.889, 0.916)),
    ('map + training on answers to\nprompts of other kinds', (0.262, 0.210, 0.318), None),
    ("map, then anchors put together to fit\nanswers to 8 prompts of its kind",
     (0.936, 0.885, 0.970), (0.985, 0.962, 0.998)),
    ('the same, 32 prompts of all kinds,\nof which it takes its own', (0.972, 0.950, 0.986),
     (0.997, 0.990, 1.000)),
    ('the same, 32 prompts of its kind', (0.996, 0.993, 0.998), (0.998, 0.995, 1.000)),
    ("map + training on answers to\nprompts of the task's kind", (1.001, 0.998, 1.003),
     (0.998, 0.996, 0.999)),
)  # fmt: skip
CONTEST, DEMO, INK = '#1f6fb4', '#d9822b', '#333333'


def draw() -> Figure:
    """Returns the figure."""
    rcParams.update({'font.size': 9.5, 'axes.spines.top': False, 'axes.spines.right': False})
    figure = Figure(figsize=(8.4, 4.7), layout='constrained')
    axis = figure.subplots()
    for x in (0, 1):
        axis.axvline(x, color=INK, linewidth=0.8)
    axis.text(0, -0.62, 'base model,\nno adapter', ha='center', va='bottom', size=8.5, color=INK)
    axis.text(1, -0.62, 'retrained\nadapter', ha='center', va='bottom', size=8.5, color=INK)
    for place, (_, contest, demo) in enumerate(ROWS):
        for values, shift, colour, marker in (
            (contest, -0.12, CONTEST, 'o'), (demo, 0.18, DEMO, 'D'),
        ):  # fmt: skip
            if values is None:
                continue
            value, low, high = values
            axis.plot([low, high], [place + shift] * 2, color=colour, linewidth=2.2)
            axis.plot(value, place + shift, marker, color=colour, markersize=6.5)
            axis.annotate(
                f'{abs(value):.2f}' if round(value, 2) == 0 else f'{value:.2f}',
                (max(high, value), place + shift), (7, 0), textcoords='offset points',
                va='center', size=8.5, color=colour,
            )  # fmt: skip
    axis.set_yticks(range(len(ROWS)), [name for name, *_ in ROWS])
    axis.tick_params(axis='y', length=0)
    axis.set_ylim(len(ROWS) - 0.5, -0.55)
    axis.set_xlim(-0.09, 1.12)
    axis.grid(axis='x', color='#dddddd')
    axis.set_axisbelow(True)
    axis.set_xlabel('share of the gap recovered')
    figure.suptitle(
        'Share of what retraining gains that each way of translating keeps, in toy worlds',
        x=0.01, ha='left', fontsize=10.5,
    )  # fmt: skip
    axis.legend(
        handles=[
            Line2D([], [], marker='o', color=CONTEST, label='other toy worlds, 95 % interval'),
            Line2D([], [], marker='D', color=DEMO, label='`make demo`, the world it was made on'),
        ],
        loc='upper right', bbox_to_anchor=(0.88, 1.0), frameon=True, framealpha=1, fontsize=8.5,
    )  # fmt: skip
    return figure


if __name__ == '__main__':
    draw().savefig(pathlib.Path(__file__).with_name('rungs.png'), dpi=150)
