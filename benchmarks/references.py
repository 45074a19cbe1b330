"""Scores the reference answer of every item of every task; each has to be right.

`python -m benchmarks.references --data_dir=DIR [--allow_code_execution] [task ...]` prints one
line a task and the items whose own answer is wrong by the scorer; status 1 if there are any.
"""

import argparse
import sys
from collections.abc import Sequence

from lorajax.tasks import registry
from lorajax.tasks.data import DataSource
from lorajax.tasks.verify import verify_references


def main(arguments: Sequence[str]) -> int:
    """Prints the numbers of each task; returns the exit status."""
    parser = argparse.ArgumentParser(prog='benchmarks.references', description=__doc__)
    parser.add_argument('--data_dir')
    parser.add_argument('--allow_code_execution', action='store_true')
    parser.add_argument('tasks', nargs='*', default=list(registry.TASKS))
    flags = parser.parse_args(arguments)
    tasks = [registry.get(name) for name in flags.tasks]
    numbers = verify_references(tasks, DataSource(flags.data_dir), flags.allow_code_execution)
    for name, row in numbers.items():
        if 'missing' in row:
            print(f'{name:28} {row["missing"]}')
            continue
        print(
            f'{name:28} train {row["train"]:5} eval {row["eval"]:5}  reference correct '
            f'{row["correct"]}/{row["items"]}, empty correct {row["empty_correct"]}'
        )
        for item, details in row['failed'].items():
            print(f'  {item}: {details}')
    return int(any(row.get('failed') or row.get('empty_correct') for row in numbers.values()))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
