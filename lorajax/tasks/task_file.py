"""A task in a small JSON file: where its rows are, what is asked and how answers are scored.

    {"data_files": {"train": "train.jsonl", "test": "test.jsonl"}, "scorer": "exact"}

Fields have the names of lm-evaluation-harness where it has them; `FIELDS` lists them all.
Without templates (`doc_to_text` and the like) rows are read by their own fields:

    {"prompt", "completion"}        texts, or lists of messages as of TRL
    {"messages"}                    the last is the answer, what comes before it the prompt
    {"question", "choices", "answer"}   the right choice by index, letter or text
    {"prompt", "completion", "tests"}   a program and the asserts that it must pass
"""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2

from lorajax import io
from lorajax.errors import InputError
from lorajax.io import fields
from lorajax.tasks import own_rows, scoring
from lorajax.tasks.own_rows import Row
from lorajax.tasks.task import Dataset, Example, Pools, RowSource, Task

_TEMPLATE = fields.either(fields.TEXT, fields.list_of(fields.TEXT))
FIELDS: Mapping[str, fields.Kind] = {
    'task': fields.TEXT,
    'domain': fields.TEXT,
    'metadata': fields.OBJECT,
    'dataset_path': fields.TEXT,
    'dataset_name': fields.TEXT,
    'data_files': fields.either(fields.TEXT, fields.object_of(fields.TEXT)),
    'training_split': fields.TEXT,
    'test_split': fields.TEXT,
    'output_type': fields.one_of('generate_until', 'multiple_choice'),
    'doc_to_text': fields.TEXT,
    'doc_to_target': fields.either(fields.TEXT, fields.INTEGER),
    'doc_to_choice': _TEMPLATE,
    'doc_to_decontamination_query': fields.TEXT,
    'scorer': fields.one_of(*scoring.SCORERS),
    'regex_pattern': fields.TEXT,
    'ignore_case': fields.BOOLEAN,
}
"""What a task file may say; see docs/tasks.md."""


def read_all(paths: Sequence[io.PathLike]) -> dict[str, Task]:
    """Reads task files, and those of directories; returns the tasks by name.

    Raises:
      InputError: as `read`; on a directory without task files, or two tasks of one name.
    """
    found: dict[str, tuple[pathlib.Path, Task]] = {}
    for name in paths:
        path = pathlib.Path(name)
        files = sorted(path.glob('*.json')) if path.is_dir() else [path]
        if not files:
            raise InputError(f'{path}: holds no task file, expected NAME.json')
        for file in files:
            task = read(file)
            if task.name in found and found[task.name][0].resolve() != file.resolve():
                raise InputError(
                    f'{file}: task {task.name!r} is also in {found[task.name][0]}, expected '
                    'another name'
                )
            found[task.name] = file, task
    return {name: task for name, (_, task) in found.items()}


def read(path: io.PathLike) -> Task:
    """Reads a task file; its rows are read when they are asked for.

    Args:
      path: JSON, an object with some of `FIELDS`. Files of rows are named relative to it.

    Raises:
      InputError: naming the file and the field, if it is unknown or of another kind, a template
        or an expression is none, or rows are said to be nowhere.
    """
    path = pathlib.Path(path)
    content = _flatten(path, fields.require_object(path, io.read_json(path)))
    known = {name: fields.require(path, content, name, kind, None) for name, kind in FIELDS.items()}
    name = known['task'] or path.stem
    if not name.isidentifier():  # it becomes the name of files
        raise InputError(
            f'{path}: task is {fields.show(name)}, expected a name of letters, digits and _'
        )
    version = fields.require(path, known['metadata'] or {}, 'version', fields.POSITIVE, 1)
    has_choices = known['output_type'] == 'multiple_choice' or bool(known['doc_to_choice'])
    scorer = known['scorer'] or ('letter' if has_choices else 'exact')
    _check_expressions(path, known)
    dataset, train, test = _dataset(path, name, known)
    held = 'one problem in five of it' if train == test else test
    reader = functools.partial(own_rows.read_row, spec=known, scorer=scorer)
    return Task(
        name=name,
        domain=known['domain'] or 'own',
        role='own',
        source=f'{path}: trained on {train or "nothing"}, evaluated on {held or "nothing"}',
        scorer=scorer,
        pools=functools.partial(
            _pools, name=name, dataset=dataset, train=train, test=test, reader=reader,
            scorer=scorer,
        ),
        version=version,
    )  # fmt: skip


def _flatten(path: pathlib.Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a task file, those that lm-evaluation-harness nests among them."""
    content = dict(content)
    options = fields.require(path, content, 'dataset_kwargs', fields.OBJECT, {})
    content.pop('dataset_kwargs', None)
    if content.get('dataset_path') == 'json':
        del content['dataset_path']
    for name in sorted(content.keys() | options.keys()):
        if name not in FIELDS or (name in options and name != 'data_files'):
            raise InputError(
                f'{path}: has {fields.show(name)}, expected some of {", ".join(FIELDS)}'
            )
    return content | options


def _check_expressions(path: pathlib.Path, spec: Mapping[str, Any]) -> None:
    """Refuses templates and regular expressions that are none."""
    for name in ('doc_to_text', 'doc_to_target', 'doc_to_choice', 'doc_to_decontamination_query'):
        for text in spec[name] if isinstance(spec[name], list) else [spec[name]]:
            if isinstance(text, str):
                try:
                    own_rows.ENVIRONMENT.from_string(text)
                except jinja2.TemplateSyntaxError as error:
                    raise InputError(f'{path}: {name} is no template: {error.message}') from None
    if spec['regex_pattern'] is not None:
        own_rows.check_pattern(spec['regex_pattern'], f'{path}: regex_pattern')


def _dataset(
    path: pathlib.Path, name: str, spec: Mapping[str, Any]
) -> tuple[Dataset, str | None, str | None]:
    """Returns where rows are, the training split and the evaluation split; None for no split."""
    files, hub = spec['data_files'], spec['dataset_path']
    if bool(files) == bool(hub):
        raise InputError(f'{path}: expected one of data_files and dataset_path')
    if hub:
        config = spec['dataset_name']
        dataset = Dataset(hub.rpartition('/')[2], hub, (config,))
        train, test = spec['training_split'], spec['test_split']
        if not (train or test):
            raise InputError(f'{path}: expected training_split, test_split or both')
        return dataset, train, test
    if isinstance(files, str):
        files = {'train': files}
    dataset = Dataset(name, files={split: path.parent / file for split, file in files.items()})
    train = spec['training_split'] or ('train' if 'train' in files else None)
    test = spec['test_split'] or next((s for s in ('test', 'validation') if s in files), None)
    for split in filter(None, (train, test)):
        if split not in files:
            raise InputError(
                f'{path}: data_files has no {fields.show(split)}, expected {", ".join(files)}'
            )
    return dataset, train, test or train


def _pools(
    rows: RowSource,
    protocol: str,
    *,
    name: str,
    dataset: Dataset,
    train: str | None,
    test: str | None,
    reader: Callable[[Row, str, str], Example],
    scorer: str,
) -> Pools:
    """Reads all rows of a task.

    A task with one split is cut: one problem in five, the same in every run, is for evaluation.
    """
    del protocol  # what is asked for is the file's
    splits = {
        split: [
            reader(row, f'{name}/{split}/{index}', _place(dataset, split, index))
            for index, row in enumerate(rows.rows(dataset, split))
        ]
        for split in filter(None, dict.fromkeys((train, test)))
    }
    splits = _with_questions(splits)
    held = splits.get(test or '', [])
    pool = splits.get(train or '', [])
    if train == test:
        held = [example for example in pool if is_cut_off(example)] or held[-1:]
        names = {example.item for example in held}
        pool = [example for example in pool if example.item not in names]
    for example in held:
        if not scoring.score(scorer, example, example.answer).correct:
            raise InputError(
                f'{example.item}: its own answer {fields.show(example.answer)} is wrong by the '
                f'scorer {scorer}, with the reference {fields.show(example.reference)}'
            )
    return Pools(train=tuple(pool), eval=tuple(held))


def is_cut_off(example: Example) -> bool:
    """Puts one problem in five on the evaluation side, in every run and whatever its seed."""
    return hashlib.sha256(example.problem_ids[-1].encode()).digest()[0] % 5 == 0


def _place(dataset: Dataset, split: str, index: int) -> str:
    """Names a row in errors."""
    if split in dataset.files:
        return f'{dataset.files[split]}, row {index + 1}'
    return f'data set {dataset.hub}, {split}, row {index + 1}'


def _with_questions(splits: Mapping[str, list[Example]]) -> dict[str, list[Example]]:
    """Fills in questions: prompts without the words that all prompts of the task share.

    Overlap is looked for in questions; a common instruction would make any two rows overlap.
    """
    prompts = {e.prompt for examples in splits.values() for e in examples if not e.question}
    words = [prompt.split() for prompt in prompts]
    first = _shared(words)
    last = _shared([list(reversed(w[first:])) for w in words])

    def with_question(example: Example) -> Example:
        if example.question:
            return example
        own = example.prompt.split()
        question = ' '.join(own[first : len(own) - last]) if len(words) > 1 else ''
        return dataclasses.replace(example, question=question or example.prompt)

    return {split: [with_question(e) for e in examples] for split, examples in splits.items()}


def _shared(texts: Sequence[Sequence[str]]) -> int:
    """Counts the words with which all texts begin."""
    count = 0
    for words in zip(*texts, strict=False):
        if len(set(words)) > 1:
            break
        count += 1
    return count
