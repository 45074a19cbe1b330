"""What a task is: examples with a prompt, an answer and a rule for scoring."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from lorajax.errors import InputError
from lorajax.io import fields

PROTOCOLS = ('direct', 'cot')
"""How an answer is asked for: alone, or (maths only) after a worked solution."""


class Prompt(NamedTuple):
    """What a model is asked; a plain text stands for one without context.

    Attributes:
      text: the user's message.
      context: messages before it, such as a system message, each {'role', 'content'}.
    """

    text: str
    context: tuple[Mapping[str, str], ...] = ()


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
      context: messages before the prompt, each {'role', 'content'}; most examples have none.
    """

    item: str
    prompt: str
    answer: str
    reference: str
    problem_ids: tuple[str, ...] = ()
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    question: str = ''
    context: tuple[Mapping[str, str], ...] = ()

    @property
    def asked(self) -> 'Prompt':
        """What a model is asked, without the answer."""
        return Prompt(self.prompt, self.context)

    def to_json(self) -> dict[str, Any]:
        """Returns the row written below `data/` of a run."""
        row = dataclasses.asdict(self) | {'problem_ids': list(self.problem_ids)}
        row['context'] = list(self.context)
        return row if self.context else {n: v for n, v in row.items() if n != 'context'}

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
        return cls(**{**values, **{n: tuple(values[n]) for n in ('problem_ids', 'context')}})


_FIELDS = {
    **dict.fromkeys(('item', 'prompt', 'answer', 'reference', 'question'), fields.TEXT),
    'problem_ids': fields.list_of(fields.TEXT),
    'meta': fields.OBJECT,
    'context': fields.list_of(
        fields.Kind(
            "an object with the texts 'role' and 'content'",
            lambda value: (
                fields.object_of(fields.TEXT).fits(value) and value.keys() == {'role', 'content'}
            ),
        )
    ),
}
_OPTIONAL: Mapping[str, tuple[Any]] = {
    'question': ('',), 'problem_ids': ((),), 'meta': ({},), 'context': ((),)
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TaskData:
    """The examples of one task in one run: disjoint by problem."""

    train: tuple[Example, ...]
    eval: tuple[Example, ...]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set: a folder of a data directory, a name on the Hugging Face hub, or files.

    Attributes:
      name: of the folder.
      hub: name on the hub; None if no copy there has these fields.
      configs: hub configurations, read one after the other; None stands for the only one.
      fields: required fields of each row and their types; others are not looked at.
      files: split -> JSON lines; a data set that has files is nowhere else.
    """

    name: str
    hub: str | None = None
    configs: tuple[str | None, ...] = (None,)
    fields: Mapping[str, type | tuple[type, ...]] = dataclasses.field(default_factory=dict)
    files: Mapping[str, pathlib.Path] = dataclasses.field(default_factory=dict)


class RowSource(Protocol):
    """Where rows come from: `lorajax.tasks.data.DataSource`, or a table in a test."""

    def rows(self, dataset: str | Dataset, split: str) -> Sequence[Mapping[str, Any]]:
        """Returns the rows of one split, in the file's order.

        Args:
          dataset: a name of `registry.DATASETS`, or a data set that is not in this table.
          split: such as 'train'.
        """


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
      domain: 'math', 'code' or 'science'; a task file may name others.
      role: 'anchor' or 'heldout', its part in the default run; any task can play either.
      source: data sets and splits, for people.
      scorer: a name of `lorajax.tasks.scoring.SCORERS`.
      pools: maps (rows, protocol) to the examples; a generated task ignores the rows.
      version: raised whenever prompts, splits or scoring change. A run notes the versions of its
        tasks and is not continued with others.
    """

    name: str
    domain: str
    role: str
    source: str
    scorer: str
    pools: Callable[[RowSource, str], Pools]
    version: float = 1
