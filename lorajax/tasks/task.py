"""What a task is: examples with a prompt, an answer and a rule for scoring."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from lorajax.errors import InputError
from lorajax.io import fields

PROTOCOLS = ('direct', 'cot')
"""How an answer is asked for: alone, or (maths only) after a worked solution."""


@dataclasses.dataclass(frozen=True)
class Example:
    """One item of a task, before any tokenizer sees it.

    Attributes:
      item: stable name of the item, unique in its task, such as 'gsm8k/test/17'.
      prompt: the user's message.
      answer: the assistant's message that training imitates.
      reference: what the scorer compares a prediction with.
      problem_ids: names of the underlying problem, shared by every data set that holds it
        (two examples with a common id are the same problem); see `lorajax.tasks.overlap`.
      meta: what a scorer needs beyond the reference, JSON-serialisable: choice labels and
        texts, unit tests.
      question: the problem alone, without the words that every prompt of its data set
        shares; overlap is measured on it, or on the prompt where it is empty.
    """

    item: str
    prompt: str
    answer: str
    reference: str
    problem_ids: tuple[str, ...] = ()
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    question: str = ''

    def to_json(self) -> dict[str, Any]:
        """Returns the row written below `data/` of a run."""
        return dataclasses.asdict(self) | {'problem_ids': list(self.problem_ids)}

    @classmethod
    def from_json(cls, where: str, row: Any) -> 'Example':
        """Reads a row that `to_json` made.

        Args:
          where: named in errors, a path and a line.
          row: a JSON value.

        Raises:
          InputError: naming the field that is missing, unknown or of another kind.
        """
        row = fields.require_object(where, row)
        values = {
            name: fields.require(where, row, name, kind, *_OPTIONAL.get(name, ()))
            for name, kind in _FIELDS.items()
        }
        for name in sorted(row.keys() - values.keys()):
            raise InputError(f'{where}: has a field {fields.show(name)}, expected no such field')
        return cls(**{**values, 'problem_ids': tuple(values['problem_ids'])})


_FIELDS = {
    **dict.fromkeys(('item', 'prompt', 'answer', 'reference', 'question'), fields.TEXT),
    'problem_ids': fields.list_of(fields.TEXT),
    'meta': fields.OBJECT,
}
_OPTIONAL: Mapping[str, tuple[Any]] = {'question': ('',), 'problem_ids': ((),), 'meta': ({},)}


@dataclasses.dataclass(frozen=True)
class TaskData:
    """The examples of one task in one run: disjoint by problem."""

    train: tuple[Example, ...]
    eval: tuple[Example, ...]


class RowSource(Protocol):
    """Where rows come from: `lorajax.tasks.data.DataSource`, or a table in a test."""

    def rows(self, dataset: str, split: str) -> Sequence[Mapping[str, Any]]:
        """Returns the rows of one split, in the file's order."""


@dataclasses.dataclass(frozen=True)
class Pools:
    """All examples from which a run may draw; an example may stand in both.

    What is drawn for evaluation is never trained on, so a data set with one split is its
    own training and evaluation pool.
    """

    train: tuple[Example, ...]
    eval: tuple[Example, ...]


@dataclasses.dataclass(frozen=True)
class Task:
    """One task: where its examples come from and how its answers are scored.

    Attributes:
      name: the name on the command line.
      domain: 'math', 'code' or 'science'.
      role: 'anchor' or 'heldout', its part in the default run; any task can play either.
      source: data sets and splits, for people.
      scorer: a name of `lorajax.tasks.scoring.SCORERS`.
      pools: maps (rows, protocol) to the examples; a generated task ignores the rows.
      version: raised whenever prompts, splits or scoring change.
    """

    name: str
    domain: str
    role: str
    source: str
    scorer: str
    pools: Callable[[RowSource, str], Pools]
    version: int = 1
