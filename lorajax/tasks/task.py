"""What a task is: examples with a prompt, an answer and a rule for scoring."""

import dataclasses
from collections.abc import Mapping
from typing import Any


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
    """

    item: str
    prompt: str
    answer: str
    reference: str
    problem_ids: tuple[str, ...] = ()
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the row written below `data/` of a run."""
        return dataclasses.asdict(self) | {'problem_ids': list(self.problem_ids)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> 'Example':
        """Reads a row that `to_json` made."""
        return cls(**{**row, 'problem_ids': tuple(row['problem_ids'])})


@dataclasses.dataclass(frozen=True)
class TaskData:
    """The examples of one task in one run: disjoint by problem."""

    train: tuple[Example, ...]
    eval: tuple[Example, ...]
