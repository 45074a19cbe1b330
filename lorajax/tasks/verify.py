"""Do the data, the prompts and the scorers agree? Every reference answer has to score 1.

`python -m lorajax.tasks.verify --data_dir=DIR [--allow_code_execution] [task ...]` prints one
line a task and the items whose own answer is wrong by the scorer; status 1 if there are any.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from lorajax.errors import InputError
from lorajax.tasks import registry, scoring
from lorajax.tasks.data import DataSource
from lorajax.tasks.task import PROTOCOLS, Example


def verify_references(
    source: DataSource,
    names: Sequence[str] = tuple(registry.TASKS),
    allow_code_execution: bool = False,
    workers: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Scores the reference answers and empty answers of whole tasks, both protocols.

    Args:
      source: where rows come from.
      names: tasks; all real ones by default.
      allow_code_execution: run the reference programs against their tests.
      workers: programs run at a time.

    Returns:
      task -> {'train', 'eval': sizes of the pools, 'correct', 'empty_correct': items of
      `items`, 'failed': {item: details}}; or {'missing': why} where the data is not there.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        try:
            found[name] = _verify(name, source, allow_code_execution, workers)
        except InputError as error:
            found[name] = {'missing': str(error)}
    return found


def _verify(
    name: str, source: DataSource, allow_code_execution: bool, workers: int | None
) -> dict[str, Any]:
    """The numbers of one task."""
    task = registry.get(name)
    examples: list[Example] = []
    for protocol in PROTOCOLS:
        pools = task.pools(source, protocol)
        examples += {e.item: e for e in pools.train + pools.eval}.values()
    if task.scorer == 'code':  # both protocols ask for the same program
        examples = examples[: len(examples) // 2]

    def outcomes(predictions: list[str]) -> list[scoring.Outcome]:
        return scoring.score_batch(
            task.scorer, examples, predictions, allow_code_execution, workers
        )

    answered = outcomes([example.answer for example in examples])
    empty = outcomes([''] * len(examples))
    return {
        'train': len(pools.train),
        'eval': len(pools.eval),
        'items': len(examples),
        'correct': sum(outcome.correct for outcome in answered),
        'empty_correct': sum(outcome.correct for outcome in empty),
        'failed': {
            f'{example.item} ({example.problem_ids[0]})': outcome.details
            for example, outcome in zip(examples, answered, strict=True)
            if not outcome.correct
        },
    }


def main(arguments: Sequence[str]) -> int:
    """Prints the numbers of each task; returns the exit status."""
    parser = argparse.ArgumentParser(prog='lorajax.tasks.verify', description=__doc__)
    parser.add_argument('--data_dir')
    parser.add_argument('--allow_code_execution', action='store_true')
    parser.add_argument('tasks', nargs='*', default=list(registry.TASKS))
    flags = parser.parse_args(arguments)
    found = verify_references(DataSource(flags.data_dir), flags.tasks, flags.allow_code_execution)
    for name, row in found.items():
        if 'missing' in row:
            print(f'{name:28} {row["missing"]}')
            continue
        print(
            f'{name:28} train {row["train"]:5} eval {row["eval"]:5}  reference correct '
            f'{row["correct"]}/{row["items"]}, empty correct {row["empty_correct"]}'
        )
        for item, details in row['failed'].items():
            print(f'  {item}: {details}')
    return int(any(row.get('failed') or row.get('empty_correct') for row in found.values()))


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
