"""Every row of the table of speed in one run: `python -m benchmarks.speed --data_dir=DATA
--story_model=DIR`.

Training, decoding and loading; ours, the peer and the machine's matrix product take turns, five
repetitions or more (one of whole commands, the row `file`), medians and ranges, each goal with its
verdict. `--rows=toy,step` picks some; rows whose files are not given are named and left out. See
`benchmarks.training`, `benchmarks.decoding` and `benchmarks.loading`, which say what each row is;
on an accelerator `benchmarks/gpu.sh` does the same at 3B size.
"""

import argparse
import time
from collections.abc import Iterator, Sequence

import jax
import peft
import torch
import transformers

from benchmarks import decoding, loading, timing, training

DECODING = ('decoding8', 'decoding32', 'decoding256')
ROWS = (*training.ROWS, *DECODING, 'loading')


def rows(wanted: Sequence[str], given: argparse.Namespace) -> Iterator[timing.Row]:
    """Measures the wanted rows, one after the other."""
    trained = [name for name in wanted if name in training.ROWS]
    yield from training.rows(trained, given.repetitions, given.data_dir, given.story_model)
    decoded = [index for index, name in enumerate(DECODING) if name in wanted]
    if decoded:
        yield from decoding.rows(decoded, given.repetitions)
    if 'loading' in wanted:
        yield loading.row(given.load_model, given.repetitions)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--rows', default=','.join(ROWS), help='some of the default')
    parser.add_argument('--repetitions', type=int, default=5)
    parser.add_argument('--data_dir', help='has gsm8k/train.jsonl[.gz]')
    parser.add_argument('--story_model', help='a small published checkpoint')
    parser.add_argument('--load_model', default='Qwen2.5-3B', help='size that is loaded')
    given = parser.parse_args()
    wanted = given.rows.split(',')
    if unknown := set(wanted) - set(ROWS):
        parser.error(f'--rows: {", ".join(sorted(unknown))}: expected some of {", ".join(ROWS)}')
    needed = {'gsm8k': given.data_dir, 'file': given.data_dir, 'story': given.story_model}
    missing = [name for name in wanted if not needed.get(name, True)]
    versions = [f'{lib.__name__} {lib.__version__}' for lib in (jax, torch, peft, transformers)]
    print(f'{timing.machine()}; {", ".join(versions)}; {given.repetitions} repetitions')
    if missing:
        print(f'Left out, as their files are not given: {", ".join(missing)}.')
    print(f'\n{timing.HEADER}', flush=True)
    start = time.monotonic()
    done = []
    for row in rows([name for name in wanted if name not in missing], given):
        print(row, flush=True)
        done.append(row)
    judged = [row for row in done if row.is_met is not None]
    missed = '; '.join(row.work for row in judged if not row.is_met) or 'none'
    print(f'\nGoals met: {sum(row.is_met for row in judged)} of {len(judged)}; missed: {missed}.')
    print(f'{time.monotonic() - start:.0f} s, afterwards: {timing.machine()}')


if __name__ == '__main__':
    main()
