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
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from lorajax.errors import InputError
from lorajax.tasks.task import Example, TaskData

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import CountVectorizer

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


class Problems:
    """What a set of examples holds: its ids, its texts and its runs of 13 words."""

    def __init__(self, examples: Iterable[Example]) -> None:
        """Collects the sets; O(words of all questions)."""
        examples = tuple(examples)
        self.ids = {i for example in examples for i in problem_ids(example)}
        self.texts = {text_id(question(example)) for example in examples}
        self._runs = _vectorizer(examples)

    def holds(self, examples: Sequence[Example]) -> np.ndarray:
        """Returns bool[n]: whether any of the three measures finds each example here."""
        by_id = np.array([not problem_ids(e).isdisjoint(self.ids) for e in examples], bool)
        if self._runs is None or not examples:
            return by_id  # the id of the text is among the ids
        runs = self._runs.transform([question(example) for example in examples])
        return by_id | (np.diff(runs.indptr) > 0)  # rows that have an entry


def _vectorizer(examples: Sequence[Example]) -> 'CountVectorizer | None':
    """Returns what finds the runs of 13 words of examples in texts; None if they have none.

    The vocabulary is exact: hashed features would report a shared run where there is none.
    """
    from sklearn.feature_extraction.text import CountVectorizer  # slow to import

    texts = [question(example) for example in examples]
    texts = [text for text in texts if len(normalise(text).split()) >= NGRAM]
    if not texts:
        return None
    vectorizer = CountVectorizer(
        preprocessor=normalise,
        tokenizer=str.split,
        token_pattern=None,
        ngram_range=(NGRAM, NGRAM),
        binary=True,
    )
    return vectorizer.fit(texts)


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
    evaluated = {task: Problems(d.eval) for task, d in data.items() if d.eval}
    shared_runs = _shared_runs(data)
    cells: dict[str, dict[str, dict[str, int]]] = {}
    for task, task_data in data.items():
        ids = [problem_ids(example) for example in task_data.train]
        texts = [text_id(question(example)) for example in task_data.train]
        cells[task] = {
            name: {
                'id': sum(not i.isdisjoint(problems.ids) for i in ids),
                'exact': sum(text in problems.texts for text in texts),
                'ngram13': shared_runs[task][name],
            }
            for name, problems in evaluated.items()
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


def _shared_runs(data: Mapping[str, TaskData]) -> dict[str, dict[str, int]]:
    """Counts, for each pair of sets, the training examples that share a run of 13 words."""
    names = [task for task, d in data.items() if d.eval]
    vectorizer = _vectorizer([example for name in names for example in data[name].eval])
    if vectorizer is None:
        return {task: dict.fromkeys(names, 0) for task in data}

    def runs(examples: Sequence[Example]) -> scipy.sparse.csr_matrix:
        """Sparse int[n, runs of all evaluation sets]."""
        return vectorizer.transform([question(example) for example in examples])

    occurs = scipy.sparse.vstack([runs(data[name].eval).max(axis=0) for name in names])
    return {
        task: {
            name: int(count)
            for name, count in zip(
                names, np.asarray((runs(d.train) @ occurs.T > 0).sum(0)).ravel(), strict=True
            )
        }
        if d.train
        else dict.fromkeys(names, 0)
        for task, d in data.items()
    }


def _shared_training(data: Mapping[str, TaskData]) -> dict[str, dict[str, int]]:
    """Counts the training examples of each task whose problem another task trains on too."""
    ids = {task: [problem_ids(example) for example in d.train] for task, d in data.items()}
    known = {task: set().union(*sets) for task, sets in ids.items()}
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
        for other, cell in row.items():
            if any(cell.values()):
                shared = ', '.join(f'{measure} {count}' for measure, count in cell.items())
                raise InputError(
                    f'training set of {task} overlaps the evaluation set of {other} ({shared}); '
                    'expected 0 in every cell of the overlap matrix'
                )


def labels_only_prior(
    train: Sequence[Example], evaluated: Sequence[Example]
) -> dict[str, float | int | str]:
    """Scores the answer that needs no question: always the commonest training reference.

    Args:
      train: training examples of a multiple-choice task.
      evaluated: its evaluation examples.

    Returns:
      {'letter', 'accuracy', 'chance', 'n'}; chance is the mean of 1 / number of choices. An
      accuracy far above it says that the letters, not the questions, give the answer away.
    """
    counts = collections.Counter(example.reference for example in train)
    letter = min(counts, key=lambda label: (-counts[label], label))
    return {
        'letter': letter,
        'accuracy': sum(e.reference == letter for e in evaluated) / len(evaluated),
        'chance': sum(1 / len(e.meta['choices']) for e in evaluated) / len(evaluated),
        'n': len(evaluated),
    }
