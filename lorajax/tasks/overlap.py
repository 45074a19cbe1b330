"""Which problems two sets of examples share, and the rule that they may share none.

Three measures, from strict to loose: a common problem id, the same question once case,
spaces and punctuation are dropped, and a common run of 13 words (the contamination test of
GPT-3, Brown et al. 2020, appendix C). All look at the question alone: the words that every
prompt of a data set repeats would make any two of its items overlap, and so would the
choices of multiple-choice items (`the same question with other choices` counts as shared).
"""

import collections
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lorajax.errors import InputError
from lorajax.tasks.task import Example, TaskData

NGRAM = 13  # words

_WORD = re.compile(r'[^\W_]+')


def normalise(text: str) -> str:
    """Returns the words of `text` in lower case, joined by one space; '' if it has none."""
    return ' '.join(_WORD.findall(unicodedata.normalize('NFKC', text).casefold()))


def text_id(text: str) -> str:
    """Returns the problem id of a text: equal for texts that differ in case, spaces and
    punctuation only (tokenised copies put spaces before it). A text of symbols alone stands
    for itself."""
    key = normalise(text).replace(' ', '') or text.strip()
    return 'text/' + hashlib.sha256(key.encode()).hexdigest()[:20]


def question(example: Example) -> str:
    """Returns the text in which overlap is looked for."""
    return example.question or example.prompt


def problem_ids(example: Example) -> set[str]:
    """Returns every id under which the example's problem is known, that of its text included."""
    return {*example.problem_ids, text_id(question(example))}


def ngrams(text: str, n: int = NGRAM) -> set[int]:
    """Returns hashes of all runs of `n` words of the normalised text; none if it is shorter."""
    words = normalise(text).split()
    return {hash(tuple(words[start : start + n])) for start in range(len(words) - n + 1)}


class Problems:
    """What a set of examples holds: its ids, its texts and its runs of 13 words."""

    def __init__(self, examples: Iterable[Example]) -> None:
        """Collects the sets; O(words of all questions)."""
        examples = tuple(examples)
        self.ids = {i for example in examples for i in problem_ids(example)}
        self.texts = {text_id(question(example)) for example in examples}
        self.ngrams = {gram for example in examples for gram in ngrams(question(example))}

    def holds(self, example: Example) -> bool:
        """Says whether any of the three measures finds the example here."""
        return bool(problem_ids(example) & self.ids or ngrams(question(example)) & self.ngrams)


def matrix(data: Mapping[str, TaskData]) -> dict[str, Any]:
    """Counts, for each pair of training and evaluation set, the training examples shared.

    Args:
      data: task -> what `lorajax.tasks.data.draw` chose, or `draw_raw` for the state before
        the rule. Tasks without evaluation items have no column.

    Returns:
      JSON-able: {'ngram': 13, 'train': {task: size}, 'eval': {task: size},
      'cells': {training task: {evaluation task: {'id', 'exact', 'ngram13'}}} and
      'shared_training': {training task: {other training task: problems in both}}, which is
      information, no fault: adapters of two tasks trained on the same problems resemble each
      other, so a held-out task that shares its training set with an anchor is an easy one;
      'labels_only_prior': {evaluation task: `labels_only_prior`} of multiple-choice tasks.
    """
    held = {task: Problems(d.eval) for task, d in data.items() if d.eval}
    cells: dict[str, dict[str, dict[str, int]]] = {}
    for task, task_data in data.items():
        ids = [problem_ids(example) for example in task_data.train]
        texts = [text_id(question(example)) for example in task_data.train]
        grams = [ngrams(question(example)) for example in task_data.train]
        cells[task] = {
            name: {
                'id': sum(not i.isdisjoint(other.ids) for i in ids),
                'exact': sum(text in other.texts for text in texts),
                'ngram13': sum(not g.isdisjoint(other.ngrams) for g in grams),
            }
            for name, other in held.items()
        }
    return {
        'ngram': NGRAM,
        'train': {task: len(d.train) for task, d in data.items()},
        'eval': {task: len(d.eval) for task, d in data.items() if d.eval},
        'cells': cells,
        'shared_training': _shared_training(data),
        'labels_only_prior': {
            task: labels_only_prior(d.train, d.eval)
            for task, d in data.items()
            if d.eval and all('choices' in example.meta for example in d.train + d.eval)
        },
    }


def _shared_training(data: Mapping[str, TaskData]) -> dict[str, dict[str, int]]:
    """Counts the training examples of each task whose problem another task trains on too."""
    ids = {task: [problem_ids(example) for example in d.train] for task, d in data.items()}
    known = {task: {i for found in sets for i in found} for task, sets in ids.items()}
    return {
        task: {
            other: shared
            for other in data
            if other != task and (shared := sum(not i.isdisjoint(known[other]) for i in sets))
        }
        for task, sets in ids.items()
    }


def check(counts: Mapping[str, Any]) -> None:
    """Stops a run whose training and evaluation sets overlap.

    Args:
      counts: what `matrix` returned.

    Raises:
      InputError: if a cell is nonzero, naming the first such pair and its counts.
    """
    for task, row in counts['cells'].items():
        for held, cell in row.items():
            if any(cell.values()):
                found = ', '.join(f'{measure} {count}' for measure, count in cell.items())
                raise InputError(
                    f'training set of {task} overlaps the evaluation set of {held} ({found}); '
                    'expected 0 in every cell of the overlap matrix'
                )


def labels_only_prior(
    train: Sequence[Example], held: Sequence[Example]
) -> dict[str, float | int | str]:
    """Scores the answer that needs no question: always the commonest training reference.

    Args:
      train: training examples of a multiple-choice task.
      held: its evaluation examples.

    Returns:
      {'letter', 'accuracy', 'chance', 'n'}; chance is the mean of 1 / number of choices. An
      accuracy far above it says that the letters, not the questions, give the answer away.
    """
    counts = collections.Counter(example.reference for example in train)
    letter = min(counts, key=lambda label: (-counts[label], label))
    return {
        'letter': letter,
        'accuracy': sum(example.reference == letter for example in held) / len(held),
        'chance': sum(1 / len(example.meta['choices']) for example in held) / len(held),
        'n': len(held),
    }
