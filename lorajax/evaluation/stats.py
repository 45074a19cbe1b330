"""Experiment 1: how much of a retrained adapter's gain each method recovers.

The seed's arithmetic (usable rows, headline, gap_recovered) is kept so that the two can be
compared; beside it stands what the seed's cannot say: one method fixed beforehand, a ratio
pooled over tasks, intervals, paired tests.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lorajax import io
from lorajax.errors import InputError
from lorajax.evaluation import intervals
from lorajax.evaluation.counts import Counts, Outcomes, check_answers, check_counts
from lorajax.evaluation.intervals import Floats
from lorajax.evaluation.loss_gaps import loss_gaps
from lorajax.evaluation.paired import best_of_chance, paired_tests
from lorajax.evaluation.roles import is_learned
from lorajax.tasks.registry import TASKS

USABLE_PP = 3  # the seed's rule: oracle - base in percentage points, at least


def experiment1(
    counts: Mapping[str, Mapping[str, int]],
    *,
    outcomes: Outcomes | None = None,
    nll: Outcomes | None = None,
    clusters: Mapping[str, Sequence[Hashable]] | None = None,
    selected_method: str | None = None,
    domains: Mapping[str, str] | None = None,
    reference_methods: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Turns numbers correct into the experiment1 part of results.json.

    The seed prints gap_recovered 5.000 for arc_challenge. That does not follow from its own
    table: base 214, best method 221, oracle 216 of 299 give 7 / 2 = 3.5 (5.0 would need a
    method with 224). The row is not usable either way.

    Args:
      counts: {task: {'n': items, method: number correct}}; base and oracle are required,
        other methods may be absent from a task.
      outcomes: {task: {method: bool[n]}}, the answers behind the counts, items in the same
        order for all methods of a task. With it intervals of differences are paired and
        McNemar's test is made; without it counts are drawn as independent binomials.
      nll: {task: {method: float[n]}}, nats per answer token of the reference answers; a
        single mean per method is taken too.
      clusters: {task: n problem names}; items of one problem are resampled together.
      selected_method: the method fixed before any held-out was scored (by leave-one-out on
        the anchors); None if there was none.
      domains: {task: domain}; by default those of the registered tasks.
      reference_methods: names that do not count as learned; by default `roles.is_learned` says
        it of each.

    Returns:
      The JSON-serialisable `experiment1` of results.json; rates are fractions of 1, fields
      that end in _pp are percentage points. A value that is not defined (no items, no gap,
      no such method) is None.

    Raises:
      InputError: a count below 0 or above n, a task without base or oracle, outcomes that
        disagree with the counts, or a selected method that nobody scored.
    """
    checked = {task: check_counts(task, row) for task, row in counts.items()}
    sizes = {task: n for task, (n, _) in checked.items()}
    correct = {task: row for task, (_, row) in checked.items()}
    methods = list(dict.fromkeys(method for row in correct.values() for method in row))
    if reference_methods is None:
        reference_methods = [method for method in methods if not is_learned(method)]
    if selected_method is not None and selected_method not in methods:
        raise InputError(
            f'selected_method: {io.show(selected_method)} has no outcomes, expected one of '
            f'{methods}'
        )
    answers = None
    if outcomes is not None:
        answers = {t: check_answers(t, outcomes, correct[t], sizes[t]) for t in correct}
    tally = _tally(correct, sizes, answers, clusters)
    losses = loss_gaps({task: (nll or {}).get(task, {}) for task in correct}, clusters or {})

    rows = []
    for task in correct:
        domain = domains.get(task) if domains else TASKS[task].domain if task in TASKS else None
        row = _row(task, domain or 'unknown', sizes[task], correct[task], reference_methods)
        row |= _differences(tally, task)
        if answers is not None:
            row['mcnemar'] = paired_tests(answers[task])
        row |= losses.rows.get(task, {'nll': {}, 'nll_gap_recovered': {}})
        rows.append(row)

    usable = [row['task'] for row in rows if row['usable']]
    pooled_tasks = {
        method: [task for task in usable if method in correct[task]]
        for method in methods
        if method not in ('base', 'oracle') and any(method in correct[task] for task in usable)
    }
    learned = {task: [m for m in correct[task] if m not in reference_methods] for task in usable}
    headline = _headline(tally, usable, learned)
    chance = None
    if answers is not None and headline is not None:
        chance = best_of_chance(
            {
                t: {m: v for m, v in answers[t].items() if m in ('mean', *learned[t])}
                for t in usable
            },
            headline,
        )
    return {
        'rows': rows,
        'headline': headline,
        'headline_chance': chance,
        'usable': usable,
        'excluded': [row['task'] for row in rows if not row['usable']],
        'pooled_gap_recovered': {
            method: _pooled_gap(tally, method, tasks) for method, tasks in pooled_tasks.items()
        },
        'pooled_tasks': pooled_tasks,
        'pooled_nll_gap_recovered': losses.pooled,
        'learned_methods': [m for m in methods if m not in reference_methods],
        'selected_method': selected_method,
        'selected_minus_mean_pp': _selected_minus_mean(tally, selected_method, usable),
        'bootstrap': {
            'kind': 'independent binomials' if outcomes is None else 'joint over items',
            'draws': intervals.NUM_DRAWS,
            'seed': intervals.SEED,
            'linked_tasks': [g for g in intervals.linked_groups(clusters or {}) if len(g) > 1],
        },
    }


class _Tally(NamedTuple):
    """Numbers correct as counted, and as drawn again by the bootstrap.

    Attributes:
      correct: {task: {method: number correct}}.
      sizes: {task: number of items}.
      draws: {task: {method: float64[draws]}}, numbers correct of each draw.
      drawn_sizes: {task: float64[draws]}, number of items of each draw, at least 1.
    """

    correct: Mapping[str, Counts]
    sizes: Mapping[str, int]
    draws: Mapping[str, Mapping[str, Floats]]
    drawn_sizes: Mapping[str, Floats]


def _tally(
    correct: Mapping[str, Counts],
    sizes: Mapping[str, int],
    answers: Mapping[str, Mapping[str, Floats]] | None,
    clusters: Mapping[str, Sequence[Hashable]] | None,
) -> _Tally:
    """Draws the counts again: over the items where the answers are known."""
    if answers is None:
        draws = intervals.resample_counts(correct, sizes)
        drawn_sizes = {task: np.full(intervals.NUM_DRAWS, float(n)) for task, n in sizes.items()}
    else:
        draws, drawn_sizes = intervals.resample(answers, clusters)
    return _Tally(correct, sizes, draws, {t: np.maximum(n, 1) for t, n in drawn_sizes.items()})


def _row(
    task: str, domain: str, n: int, correct: Counts, reference: Sequence[str]
) -> dict[str, Any]:
    """One row of the main table: the seed's columns and Wilson intervals."""
    gap = correct['oracle'] - correct['base']
    candidates = [m for m in correct if m == 'mean' or m not in reference]
    best = max(candidates, key=lambda m: correct[m], default=None)  # first of equals
    return {
        'domain': domain,
        'task': task,
        'n': n,
        'correct': dict(correct),
        'accuracy': {m: k / n if n else None for m, k in correct.items()},
        'ci95': {m: intervals.wilson(k, n) for m, k in correct.items()},
        'oracle_minus_base_pp': 100 * gap / n if n else None,
        # In whole numbers, so that exactly 3 pp is usable whatever the rounding.
        'usable': n > 0 and 100 * gap >= USABLE_PP * n,
        'gap_recovered': (correct[best] - correct['base']) / gap if best and gap > 0 else None,
        'best_method': best,
        'gap_recovered_by_method': {
            m: (k - correct['base']) / gap if gap > 0 else None
            for m, k in correct.items()
            if m not in ('base', 'oracle')
        },
    }


def _differences(tally: _Tally, task: str) -> dict[str, Any]:
    """Differences to base and mean in percentage points, and our own usable rule."""
    correct, draws, n = tally.correct[task], tally.draws[task], tally.sizes[task]
    if n == 0:
        return {'oracle_minus_base_ci95_pp': None, 'usable_ci': False, 'difference_pp': {}}
    differences: dict[str, dict[str, list[float]]] = {}
    for method in correct:
        for other in ('base', 'mean'):
            if other in correct and method != other:
                point = 100 * (correct[method] - correct[other]) / n
                drawn = 100 * (draws[method] - draws[other]) / tally.drawn_sizes[task]
                differences.setdefault(method, {})[other] = [point, *intervals.percentiles(drawn)]
    _, low, high = differences['oracle']['base']
    return {
        'oracle_minus_base_ci95_pp': [low, high],
        'usable_ci': low > 0,
        'difference_pp': differences,
    }


def _headline(
    tally: _Tally, usable: Sequence[str], learned: Mapping[str, Sequence[str]]
) -> float | None:
    """The seed's headline: best learned method minus mean, averaged over usable rows."""
    leads = [
        (max(tally.correct[t][m] for m in learned[t]) - tally.correct[t]['mean']) / tally.sizes[t]
        for t in usable
        if learned[t] and 'mean' in tally.correct[t]
    ]
    return sum(leads) / len(leads) if leads else None


def _pooled_gap(tally: _Tally, method: str, tasks: Sequence[str]) -> list[float | None]:
    """sum(method - base) / sum(oracle - base) in items, over usable rows: [value, low, high]."""

    def gain(values: Mapping[str, Mapping[str, Any]], better: str) -> Any:
        return np.sum([values[t][better] - values[t]['base'] for t in tasks], axis=0)

    ends = intervals.ratio_interval(gain(tally.draws, method), gain(tally.draws, 'oracle'))
    # Usable rows have a gap above 0.
    return [float(gain(tally.correct, method) / gain(tally.correct, 'oracle')), *ends]


def _selected_minus_mean(
    tally: _Tally, method: str | None, usable: Sequence[str]
) -> list[float] | None:
    """The fixed method minus mean, averaged over usable rows: [pp, low, high]."""
    tasks = [t for t in usable if method in tally.correct[t] and 'mean' in tally.correct[t]]
    if method is None or not tasks:
        return None
    leads = [(tally.correct[t][method] - tally.correct[t]['mean']) / tally.sizes[t] for t in tasks]
    drawn = [
        (tally.draws[t][method] - tally.draws[t]['mean']) / tally.drawn_sizes[t] for t in tasks
    ]
    return [100 * float(np.mean(leads)), *intervals.percentiles(100 * np.mean(drawn, axis=0))]
