"""Aggregates a run's outcomes into the content of results.json.

No file, no clock, no machine, no random state other than fixed seeds: the same values give the
same dictionary.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lorajax.errors import InputError
from lorajax.evaluation import ablation_stats, references, source_side
from lorajax.evaluation.outcomes import Row, Table
from lorajax.evaluation.stats import experiment1
from lorajax.types import JsonDict, ReadOnlyJson

SCHEMA = 1

# Words that mark a diagnostic as a duration, a date or a use of memory; those differ between
# equal runs.
_TIMING = re.compile(
    r'(^|_)(seconds?|secs?|s|ms|minutes?|time|times|timing|wall|elapsed|duration|date|timestamp|memory)(_|$)'
)

_READ = ('parsed', 'letter')  # details that hold what was read from an answer, or null
_MAX_WORDS = 8


def build(
    config: ReadOnlyJson,
    outcomes: Mapping[str, Table],
    *,
    eval_items: Mapping[str, Sequence[ReadOnlyJson]] | None = None,
    ablations: Mapping[str, Mapping[str, Sequence[Row]]] | None = None,
    diagnostics: Mapping[str, ReadOnlyJson] | None = None,
    cosines: Mapping[str, Mapping[str, float]] | None = None,
    source: Mapping[str, Table] | None = None,
    selected_method: str | None = None,
) -> JsonDict:
    """Returns what results.json holds.

    Args:
      config: content of config.json; 'source_model', 'target_model', 'methods', 'domains' {task:
        domain} and 'twins' {held-out: anchors of the same pool} are used where present.
      outcomes: of every held-out, in the order of the tables; see `outcomes.read_table`.
      eval_items: {task: its evaluation items}, for the 'problem_ids' that items share.
      ablations: {'experiment2' or 'experiment3': {task: rows}}.
      diagnostics: {method: content of its diagnostics.json}.
      cosines: {task: {method: cosine of its update with the oracle's}}.
      source: outcomes of the source model, of some held-outs; see `source_side`.
      selected_method: the method fixed before evaluation.

    Returns:
      A JSON-serialisable dictionary. An experiment without rows is {'run': False, ...}.

    Raises:
      InputError: if `selected_method` has no outcomes, a row of an ablation lacks a label or
        names an item that the main outcomes do not have, or diagnostics are no JSON object.
    """
    methods = list(config.get('methods') or [])
    order = ['base', 'mean', *methods]
    main = {task: _methods_of_run(table, methods) for task, table in outcomes.items()}
    beside = {task: _references(table, methods) for task, table in outcomes.items()}
    items = {task: list(table['base']) for task, table in outcomes.items()}
    problems = _problems(items, eval_items or {})
    correct = {task: _column(table, 'correct', order) for task, table in main.items()}
    nll = {task: _column(table, 'nll', order) for task, table in main.items()}

    def compare(tasks: Iterable[str]) -> JsonDict:
        tasks = list(tasks)
        return experiment1(
            {
                task: {'n': len(items[task])} | {m: int(sum(v)) for m, v in correct[task].items()}
                for task in tasks
            },
            outcomes={task: correct[task] for task in tasks},
            nll={task: nll[task] for task in tasks},
            clusters={task: problems[task] for task in tasks},
            selected_method=selected_method,
            domains=config.get('domains') or None,
        )

    experiment = compare(correct)
    twins = {task: names for task, names in (config.get('twins') or {}).items() if task in correct}
    if twins and len(twins) < len(correct):
        rest = compare(task for task in correct if task not in twins)
        experiment['without_twins'] = {
            'twins': twins, 'pooled_gap_recovered': rest['pooled_gap_recovered']
        }  # fmt: skip
    for row in experiment['rows']:
        row['nll_undefined'] = _undefined(main[row['task']], order)
        row['details'] = _detail_rates(main[row['task']], order)
    baselines = ablation_stats.Baselines(
        {
            task: {
                m: {item: bool(row['correct']) for item, row in table[m].items()}
                for m in ('base', 'oracle')
            }
            for task, table in main.items()
        },
        {task: dict(zip(items[task], problems[task], strict=True)) for task in items},
        experiment['usable'],
    )
    known = _diagnostics(diagnostics or {})
    rows = ablations or {}
    return {
        'schema': SCHEMA,
        'source_model': config.get('source_model'),
        'target_model': config.get('target_model'),
        'experiment1': experiment,
        'topk': _selections(known, list(outcomes)),
        'experiment2': ablation_stats.experiment2(rows.get('experiment2', {}), baselines),
        'experiment3': ablation_stats.experiment3(
            rows.get('experiment3', {}),
            baselines,
            {row['task']: row['domain'] for row in experiment['rows']},
        ),
        'references': references.summary(
            {task: _column(table, 'correct', order) for task, table in beside.items()},
            {task: _column(table, 'nll', order) for task, table in beside.items()},
            problems,
            cosines or {},
        ),
        'source': source_side.summary(main, source or {}, ['mean', *methods, 'oracle']),
        'diagnostics': known,
    }


def _methods_of_run(table: Table, methods: Sequence[str]) -> Table:
    """The main table: all but references that are no methods of the run."""
    return {
        name: rows
        for name, rows in table.items()
        if name in methods or name not in references.REFERENCES
    }


def _references(table: Table, methods: Sequence[str]) -> Table:
    """The references that are no methods of the run, between base and oracle."""
    names = [name for name in references.REFERENCES if name in table and name not in methods]
    return {name: table[name] for name in ('base', *names, 'oracle')}


def _selections(
    diagnostics: Mapping[str, ReadOnlyJson], heldouts: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """The anchors that each top-k method picked: {method: {held-out: [anchor]}}."""
    selections = {}
    for method, values in diagnostics.items():
        reports = values.get('predictions')
        if method.startswith('topk') and isinstance(reports, dict):
            selections[method] = {
                task: reports[task]['selected']
                for task in heldouts
                if 'selected' in reports.get(task, {})
            }
    return {method: picked for method, picked in selections.items() if picked}


def _in_order(methods: Iterable[str], order: Sequence[str]) -> list[str]:
    """Sorts methods: as in `order`, then unknown ones as they came, then the oracle."""
    names = list(methods)
    known = [m for m in dict.fromkeys(order) if m in names and m != 'oracle']
    rest = [m for m in names if m not in known and m != 'oracle']
    return known + rest + [m for m in names if m == 'oracle']


def _is_number(value: Any) -> bool:
    """Returns whether a stored value is a finite number or a truth value."""
    return isinstance(value, int | float) and math.isfinite(value)


def _column(table: Table, field: str, order: Sequence[str]) -> dict[str, list[float]]:
    """Returns {method: one number per item}, leaving out methods that lack one."""
    columns: dict[str, list[Any]] = {
        method: [row.get(field) for row in table[method].values()]
        for method in _in_order(table, order)
    }
    return {
        method: [float(value) for value in values]
        for method, values in columns.items()
        if values and all(map(_is_number, values))
    }


def _undefined(table: Table, order: Sequence[str]) -> dict[str, int]:
    """Counts the items whose loss is no number, {method: count}, where there are some."""
    counts = {
        method: sum(not _is_number(row.get('nll')) for row in table[method].values())
        for method in _in_order(table, order)
    }
    return {method: count for method, count in counts.items() if count}


def _detail_rates(table: Table, order: Sequence[str]) -> dict[str, dict[str, float]]:
    """Turns the scorers' by-products into shares of items: {entry: {method: share}}.

    A yes/no entry gives the share of yes; what was read from an answer ('parsed', 'letter')
    the share of answers from which something was; other words one entry 'name=word' each,
    where there are few.
    """
    values: dict[str, dict[str, list[bool | str]]] = {}
    for method in _in_order(table, order):
        for row in table[method].values():
            for name, value in (row.get('details') or {}).items():
                seen = value is not None if name in _READ else value
                if isinstance(seen, bool | str):
                    values.setdefault(name, {}).setdefault(method, []).append(seen)
    rates: dict[str, dict[str, float]] = {}
    for name, by_method in values.items():
        distinct = {value for seen in by_method.values() for value in seen}
        if distinct <= {True, False}:
            rates[name] = {m: seen.count(True) / len(seen) for m, seen in by_method.items()}
        elif len(distinct) <= _MAX_WORDS:
            for word in sorted(map(str, distinct)):
                rates[f'{name}={word}'] = {
                    m: [str(value) for value in seen].count(word) / len(seen)
                    for m, seen in by_method.items()
                }
    return rates


def _problems(
    items: Mapping[str, Sequence[str]], rows: Mapping[str, Sequence[ReadOnlyJson]]
) -> dict[str, list[str]]:
    """Names the problem behind each item; items with a common problem id get one name."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for task in items:
        for row in rows.get(task, ()):
            for problem in row.get('problem_ids') or []:
                parent[root(f'problem {problem}')] = root(f'item {task} {row["item"]}')
    return {task: [root(f'item {task} {item}') for item in names] for task, names in items.items()}


def _diagnostics(diagnostics: Mapping[str, ReadOnlyJson]) -> JsonDict:
    """Copies every mapping's diagnostics, without what a clock wrote."""
    for method, values in diagnostics.items():
        if not isinstance(values, dict):
            raise InputError(f'diagnostics of {method}: expected a JSON object')
    return {method: _without_timing(values) for method, values in diagnostics.items()}


def _without_timing(value: Any) -> Any:
    """Drops durations and dates at every depth."""
    if isinstance(value, dict):
        return {
            k: _without_timing(v) for k, v in value.items() if not _TIMING.search(str(k).lower())
        }
    return [_without_timing(v) for v in value] if isinstance(value, list) else value
