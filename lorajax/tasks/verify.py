"""Do the data, the prompts and the scorers agree? Every reference answer has to score 1."""

from collections.abc import Sequence
from typing import Any

from lorajax.tasks import scoring
from lorajax.tasks.data import MissingRowsError
from lorajax.tasks.task import PROTOCOLS, Example, RowSource, Task


def verify_references(
    tasks: Sequence[Task],
    source: RowSource,
    allow_code_execution: bool = False,
    workers: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Scores the reference answers and empty answers of whole tasks, both protocols.

    Args:
      tasks: what to look at, such as those of `lorajax.tasks.registry.TASKS`.
      source: where rows come from.
      allow_code_execution: run the reference programs against their tests.
      workers: programs run at a time.

    Returns:
      Name of a task -> {'train', 'eval': sizes of the pools, 'items', 'correct',
      'empty_correct': items of `items`, 'failed': {item: details}}; or {'missing': why} where
      the data is not there.

    Raises:
      InputError: if rows are malformed, or programs are to run and cannot be confined.
    """
    numbers: dict[str, dict[str, Any]] = {}
    for task in tasks:
        try:
            numbers[task.name] = _verify(task, source, allow_code_execution, workers)
        except MissingRowsError as error:
            numbers[task.name] = {'missing': str(error)}
    return numbers


def _verify(
    task: Task, source: RowSource, allow_code_execution: bool, workers: int | None
) -> dict[str, Any]:
    """The numbers of one task."""
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
