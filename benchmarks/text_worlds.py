"""What of a text task arrives: `python -m benchmarks.text_worlds --workdir=runs/text`.

Reads the outcomes of a run of launch/text.flags. An answer is right when its format is and the word
in it; the table has both apart, and the pooled shares of the gap with 95 % intervals over
held-outs: these are drawn again, with all their methods. Prints answers to some prompts, too.
"""

import pathlib
import re
from collections.abc import Sequence

import numpy as np
from absl import app, flags

from lorajax import io
from lorajax.text.skills import FORMATS

_DRAWS = 4000
_SHOWN = ('base', 'mean', 'matched_scaled', 'reweighted', 'distilled', 'oracle')

Outcomes = dict[str, dict[str, np.ndarray]]  # task -> method -> float[4]: right, format, word, nats


def parts(task: str, prediction: str, reference: str) -> tuple[bool, bool]:
    """Returns whether a prediction has its task's format, and whether the word in it is right."""
    write = FORMATS[task.split('_')[-1]]
    mark = 'MARK'
    pattern = re.escape(write(mark)).replace(mark, r'(\S+)', 1).replace(mark, r'\S+')
    word = re.fullmatch(pattern, reference)
    assert word is not None
    found = re.fullmatch(pattern, prediction.strip())
    return found is not None, word[1] in re.findall(r'\w+', prediction)


def read(workdir: pathlib.Path) -> Outcomes:
    """Returns the means of all tasks and methods of a run."""
    found: Outcomes = {}
    for path in sorted((workdir / 'outcomes').glob('text_*.jsonl')):
        rows: dict[str, list[tuple[float, ...]]] = {}
        for row in map(dict, io.read_jsonl(path)):
            form, word = parts(path.stem, row['prediction'], row['reference'])
            rows.setdefault(row['method'], []).append((row['correct'], form, word, row['nll']))
        found[path.stem] = {method: np.mean(values, 0) for method, values in rows.items()}
    return found


def gap(values: np.ndarray, column: int) -> tuple[float, float, float]:
    """Returns the pooled share of the gap and its interval, of float[tasks, 3, 4] values."""
    base, method, oracle = values[:, :, column].T
    draws = np.random.default_rng(0).integers(len(values), size=(_DRAWS, len(values)))
    shares = (method - base)[draws].sum(1) / (oracle - base)[draws].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return (method - base).sum() / (oracle - base).sum(), low, high


def table(outcomes: Outcomes) -> str:
    """Returns a Markdown table, one line a method."""
    lines = [
        '| method | right | format | word | gap, right | gap, nats |',
        '| --- | ---: | ---: | ---: | --- | --- |',
    ]
    for method in next(iter(outcomes.values())):
        values = np.array([[of[m] for m in ('base', method, 'oracle')] for of in outcomes.values()])
        means = values[:, 1].mean(0)
        cells = [f'{mean:.2f}' for mean in means[:3]]
        cells += ['{:.2f} [{:.2f}, {:.2f}]'.format(*gap(values, column)) for column in (0, 3)]
        lines.append(f'| {method} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def by_task(outcomes: Outcomes) -> str:
    """Returns a Markdown table of the share of right answers, one line a held-out."""
    methods = list(next(iter(outcomes.values())))
    lines = ['| held-out | ' + ' | '.join(methods) + ' |', '| --- |' + ' ---: |' * len(methods)]
    for task, of in outcomes.items():
        lines.append(f'| {task} | ' + ' | '.join(f'{of[m][0]:.2f}' for m in methods) + ' |')
    return '\n'.join(lines) + '\n'


def texts(workdir: pathlib.Path, task: str, count: int) -> str:
    """Returns answers of some methods to the first prompts of a held-out."""
    rows = [dict(row) for row in io.read_jsonl(workdir / 'outcomes' / f'{task}.jsonl')]
    items = list(dict.fromkeys(row['item'] for row in rows))[:count]
    lines = []
    for item in items:
        mine = {row['method']: row for row in rows if row['item'] == item}
        lines.append(f'{item}, right: {mine["base"]["reference"]}')
        lines += [f'  {m}: {mine[m]["prediction"]}' for m in _SHOWN if m in mine]
    return '\n'.join(lines) + '\n'


def main(argv: Sequence[str]) -> None:
    """Prints the tables and some texts."""
    del argv
    workdir = pathlib.Path(flags.FLAGS.workdir)
    outcomes = read(workdir)
    print(table(outcomes))
    print(by_task(outcomes))
    for task in flags.FLAGS.texts or list(outcomes)[:1]:
        print(texts(workdir, task, 3))


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'of the run', required=True)
    flags.DEFINE_list('texts', [], 'held-outs whose answers are shown; the first if none')
    app.run(main)
