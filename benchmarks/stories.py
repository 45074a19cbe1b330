"""What of a style arrives, part by part: `python -m benchmarks.stories --workdir=runs/stories`.

Reads the outcomes of a run of launch/stories.flags. A style counts as followed when form of the
words, case and ending of the sentences are all right; this table says which of them are, pooled
over the held-outs that have these parts, beside the share of the gap in loss.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
from absl import app, flags

from lorajax import io
from lorajax.stories.tasks import TASKS
from lorajax.tasks.styles import STYLES

_PARTS = ('form', 'case', 'ending')


def table(workdir: pathlib.Path) -> str:
    """Returns a Markdown table, one line a method."""
    seen: dict[str, list[list[bool]]] = {}
    losses: dict[str, dict[str, list[float]]] = {}
    for path in sorted((workdir / 'outcomes').glob('story_*.jsonl')):
        if TASKS[path.stem].domain == 'other':
            continue
        style = STYLES[path.stem.removeprefix('story_')]
        for row in map(dict, io.read_jsonl(path)):
            found = style.parts(row['prediction'])
            seen.setdefault(row['method'], []).append([found[name] for name in _PARTS])
            losses.setdefault(row['method'], {}).setdefault(path.stem, []).append(row['nll'])
    means = {name: np.mean([np.mean(v) for v in by.values()]) for name, by in losses.items()}
    lines = ['| method | all | form | case | ending | loss gap |', '| --- |' + ' ---: |' * 5]
    for name, parts in seen.items():
        rows = np.array(parts)
        gap = (means['base'] - means[name]) / (means['base'] - means['oracle'])
        shares = [rows.all(1).mean(), *rows.mean(0), gap]
        lines.append(f'| {name} | ' + ' | '.join(f'{share:.2f}' for share in shares) + ' |')
    return '\n'.join(lines) + '\n'


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    del argv
    print(table(pathlib.Path(flags.FLAGS.workdir)))


if __name__ == '__main__':
    flags.DEFINE_string('workdir', None, 'of the run', required=True)
    app.run(main)
