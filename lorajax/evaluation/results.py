"""Aggregates a run's outcomes into the content of results.json.

Reads config.json, outcomes/, mappings/*/diagnostics.json and, where they exist, the
evaluation items (for the problems that tasks share). No clock, no machine, no random state
other than fixed seeds: the same files give the same dictionary.
"""

import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lorajax.errors import InputError
from lorajax.evaluation import references
from lorajax.evaluation.ablation_tables import Reference, anchor_scaling, domain_transfer
from lorajax.evaluation.stats import REFERENCE_METHODS, experiment1
from lorajax.experiment.workdir import Workdir
from lorajax.io import read_json, read_jsonl

SCHEMA = 1

# Words that mark a diagnostic as a duration, a date or a use of memory; those differ between
# equal runs.
_TIMING = re.compile(
    r'(^|_)(seconds?|secs?|s|ms|minutes?|time|times|timing|wall|elapsed|duration|date|timestamp|memory)(_|$)'
)


_READ = ('parsed', 'letter')  # details that hold what was read from an answer, or null
_MAX_WORDS = 8


def build(workdir: Workdir) -> dict[str, Any]:
    """Returns what results.json holds.

    Args:
      workdir: a run whose held-outs are scored. config.json names them under 'heldouts';
        'methods', 'domains' {task: domain}, 'reference_methods' (that do not count as
        learned) and 'selected_method' are used where present; the last is also read from
        mappings/selection.json.

    Returns:
      A JSON-serialisable dictionary. Experiments 2 and 3 are {'run': False} when
      outcomes/experiment2 and outcomes/experiment3 hold nothing.

    Raises:
      InputError: a file is missing or malformed, a method lacks items that another has, or
        a row lacks a field.
    """
    config = read_json(workdir.config)
    heldouts = config.get('heldouts')
    if not isinstance(heldouts, list) or not heldouts:
        raise InputError(f'{workdir.config}: heldouts = {heldouts!r}, expected a list of tasks')
    tables = {task: _table(workdir.outcomes(task), task) for task in heldouts}
    order = ['base', 'mean', *config.get('methods', [])]
    bounded = _bounded(tables, config.get('methods', []))
    problems = _problems(workdir, {task: list(rows['base']) for task, rows in tables.items()})
    limits = references.summary(
        {task: _column(rows, 'correct', order) for task, rows in bounded.items()},
        {task: _column(rows, 'nll', order) for task, rows in bounded.items()},
        problems,
        read_json(workdir.cosines) if workdir.cosines.exists() else {},
    )
    answers = {task: _column(rows, 'correct', order) for task, rows in tables.items()}
    items = {task: list(rows['base']) for task, rows in tables.items()}
    main = experiment1(
        {
            task: {'n': len(items[task])} | {m: int(sum(v)) for m, v in methods.items()}
            for task, methods in answers.items()
        },
        outcomes=answers,
        nll={task: _column(rows, 'nll', order) for task, rows in tables.items()},
        clusters=problems,
        selected_method=_selected_method(workdir, config),
        domains=config.get('domains') or None,
        reference_methods=config.get('reference_methods') or REFERENCE_METHODS,
    )
    for row in main['rows']:
        row['details'] = _detail_rates(tables[row['task']], order)
    reference: Reference = {
        task: {m: {i: bool(r['correct']) for i, r in rows[m].items()} for m in ('base', 'oracle')}
        for task, rows in tables.items()
    }
    by_domain = {row['task']: row['domain'] for row in main['rows']}
    diagnostics = _diagnostics(workdir)
    return {
        'schema': SCHEMA,
        'source_model': config.get('source_model'),
        'target_model': config.get('target_model'),
        'experiment1': main,
        'topk': _selections(diagnostics, heldouts),
        'experiment2': anchor_scaling(
            _extra_rows(workdir, 'experiment2', heldouts), reference, main['usable']
        ),
        'experiment3': domain_transfer(
            _extra_rows(workdir, 'experiment3', heldouts), reference, main['usable'], by_domain
        ),
        'bounds': limits,
        'diagnostics': diagnostics,
    }


def _bounded(
    tables: Mapping[str, dict[str, dict[str, Any]]], methods: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Takes the bounds that are no methods of the run out of `tables`; adds base and oracle."""
    taken = {}
    for task, table in tables.items():
        names = [name for name in references.BOUNDS if name in table and name not in methods]
        taken[task] = {
            'base': table['base'],
            **{name: table.pop(name) for name in names},
            'oracle': table['oracle'],
        }
    return taken


def _selected_method(workdir: Workdir, config: Mapping[str, Any]) -> str | None:
    """The method fixed before evaluation, from config.json or mappings/selection.json."""
    if config.get('selected_method'):
        return config['selected_method']
    if workdir.selection.exists():
        return read_json(workdir.selection).get('selected_method')
    return None


def _selections(
    diagnostics: Mapping[str, Any], heldouts: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """The anchors that each top-k method picked: {method: {held-out: [anchor]}}."""
    found = {}
    for method, values in diagnostics.items():
        if isinstance(values.get('selected'), dict):
            found[method] = values['selected']
        elif method.startswith('topk') and isinstance(values.get('predictions'), dict):
            reports = values['predictions']
            found[method] = {
                task: reports[task]['selected']
                for task in heldouts
                if 'selected' in reports.get(task, {})
            }
    return {method: picked for method, picked in found.items() if picked}


def _table(path: pathlib.Path, task: str) -> dict[str, dict[str, Any]]:
    """Reads an outcomes file into {method: {item: row}}, same items in the same order."""
    table: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(read_jsonl(path), 1):
        _check_row(path, number, row, task)
        rows = table.setdefault(row['method'], {})
        if row['item'] in rows:
            raise InputError(
                f'{path}: row {number} is a second answer of {row["method"]} to {row["item"]!r}'
            )
        rows[row['item']] = row
    for name in ('base', 'oracle'):
        if name not in table:
            raise InputError(f'{path}: no rows of {name}, expected base and oracle')
    items = list(table['base'])
    for method, rows in table.items():
        if rows.keys() != set(items):
            odd = sorted(rows.keys() ^ set(items), key=str)[0]
            raise InputError(
                f'{path}: {method} and base answer different items ({len(rows)} and '
                f'{len(items)}; {odd!r} is only in one), expected the same'
            )
        table[method] = {item: rows[item] for item in items}
    return table


def _check_row(path: pathlib.Path, number: int, row: Any, task: str) -> None:
    """Refuses a row without the fields that scoring needs."""
    if not isinstance(row, dict):
        raise InputError(f'{path}: row {number} is not a JSON object')
    for name in ('task', 'method', 'item', 'correct'):
        if name not in row:
            raise InputError(f'{path}: row {number} has no {name!r}')
    if row['task'] != task:
        raise InputError(f'{path}: row {number} is of task {row["task"]!r}, expected {task!r}')
    if row['correct'] not in (0, 1):
        raise InputError(
            f'{path}: row {number} has correct = {row["correct"]!r}, expected true or false'
        )


def _in_order(methods: Iterable[str], order: Sequence[str]) -> list[str]:
    """Sorts methods: as in `order`, then unknown ones as they came, then the oracle."""
    names = list(methods)
    known = [m for m in dict.fromkeys(order) if m in names and m != 'oracle']
    rest = [m for m in names if m not in known and m != 'oracle']
    return known + rest + [m for m in names if m == 'oracle']


def _column(
    table: Mapping[str, Mapping[str, Any]], name: str, order: Sequence[str]
) -> dict[str, list[float]]:
    """Returns {method: one number per item}, leaving out methods with a null in it."""
    columns = {
        method: [row.get(name) for row in table[method].values()]
        for method in _in_order(table, order)
    }
    return {
        method: [float(v) for v in values]
        for method, values in columns.items()
        if values and None not in values
    }


def _detail_rates(
    table: Mapping[str, Mapping[str, Any]], order: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Turns the scorers' by-products into shares of items: {entry: {method: share}}.

    A yes/no entry gives the share of yes; what was read from an answer ('parsed', 'letter')
    the share of answers from which something was; other words one entry 'name=word' each,
    where there are few.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for method in _in_order(table, order):
        for row in table[method].values():
            for name, value in (row.get('details') or {}).items():
                if name in _READ:
                    value = value is not None
                if isinstance(value, bool | str):
                    found.setdefault(name, {}).setdefault(method, []).append(
                        value if isinstance(value, str) else f'{value}'
                    )
    rates: dict[str, dict[str, float]] = {}
    for name, methods in found.items():
        words = sorted({word for given in methods.values() for word in given})
        flag = set(words) <= {'True', 'False'}
        for word in ['True'] if flag else words if len(words) <= _MAX_WORDS else []:
            rates[name if flag else f'{name}={word}'] = {
                method: given.count(word) / len(given) for method, given in methods.items()
            }
    return rates


def _problems(workdir: Workdir, items: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Names the problem behind each item; items with a common problem id get one name."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for task in items:
        path = workdir.eval_data(task)
        for row in read_jsonl(path) if path.exists() else []:
            for problem in row.get('problem_ids') or []:
                parent[find(f'problem {problem}')] = find(f'item {task} {row["item"]}')
    return {task: [find(f'item {task} {item}') for item in names] for task, names in items.items()}


def _extra_rows(
    workdir: Workdir, experiment: str, heldouts: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Reads outcomes/<experiment>/<task>.jsonl of the held-outs that have one."""
    tables = {}
    for task in heldouts:
        path = workdir.study_outcomes(experiment, task)
        if path.exists():
            tables[task] = read_jsonl(path)
            for number, row in enumerate(tables[task], 1):
                _check_row(path, number, row, task)
    return tables


def _diagnostics(workdir: Workdir) -> dict[str, Any]:
    """Copies every mapping's diagnostics, without what a clock wrote."""
    paths = sorted((workdir.root / 'mappings').glob('*/diagnostics.json'))
    found = {path.parent.name: read_json(path) for path in paths}
    for method, values in found.items():
        if not isinstance(values, dict):
            raise InputError(f'mappings/{method}/diagnostics.json: expected a JSON object')
    return {method: _without_timing(values) for method, values in found.items()}


def _without_timing(value: Any) -> Any:
    """Drops durations and dates at every depth."""
    if isinstance(value, dict):
        return {
            k: _without_timing(v) for k, v in value.items() if not _TIMING.search(str(k).lower())
        }
    return [_without_timing(v) for v in value] if isinstance(value, list) else value
