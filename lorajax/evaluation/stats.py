"""Experiment 1: how much of a retrained adapter's gain each method recovers.

The seed's arithmetic (usable rows, headline, gap_recovered) is kept so that the two can be
compared; beside it stands what the seed's cannot say: one method fixed beforehand, a ratio
pooled over tasks, intervals, paired tests.
"""

import operator
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lorajax.errors import InputError
from lorajax.evaluation import intervals
from lorajax.evaluation.intervals import Floats
from lorajax.evaluation.paired import best_of_chance, paired_tests

USABLE_PP = 3  # the seed's rule: oracle - base in percentage points, at least

# Methods that train on the target, on answers of the source: more than a map.
TRAINED_METHODS = ('distilled',)

# Methods that learn no map from source to target: they never count as 'learned', so the
# headline cannot be won by one of them.
REFERENCE_METHODS = (
    'base',
    'mean',
    'oracle',
    'zero',
    'mean_delta',
    'scaled_mean',
    'nearest',
    'placebo',
    'span_oracle',
    'span_oracle_tensor',
    'pad_truncate',
    *TRAINED_METHODS,
)

# Domains of the seed's held-outs, for counts that come without any.
HELDOUT_DOMAINS = {
    'gsm_hard': 'math',
    'gsm8k_test_500': 'math',
    'mbpp_test_held': 'code',
    'mbpp_plus': 'code',
    'arc_challenge': 'science',
    'openbookqa_test': 'science',
}

Outcomes = Mapping[str, Mapping[str, npt.ArrayLike]]


def experiment1(
    counts: Mapping[str, Mapping[str, int]],
    *,
    outcomes: Outcomes | None = None,
    nll: Outcomes | None = None,
    clusters: Mapping[str, Sequence[Hashable]] | None = None,
    selected_method: str | None = None,
    domains: Mapping[str, str] | None = None,
    reference_methods: Sequence[str] = REFERENCE_METHODS,
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
      domains: {task: domain}; by default the six held-outs of the seed are known.
      reference_methods: names that do not count as learned.

    Returns:
      The JSON-serialisable `experiment1` of results.json; rates are fractions of 1, fields
      that end in _pp are percentage points. A value that is not defined (no items, no gap,
      no such method) is None.

    Raises:
      InputError: a count below 0 or above n, a task without base or oracle, outcomes that
        disagree with the counts, or a selected method that nobody scored.
    """
    checked = {task: _checked(task, row) for task, row in counts.items()}
    sizes = {task: n for task, (n, _) in checked.items()}
    correct = {task: row for task, (_, row) in checked.items()}
    methods = list(dict.fromkeys(method for row in correct.values() for method in row))
    if selected_method is not None and selected_method not in methods:
        raise InputError(
            f'selected_method: {selected_method!r} has no outcomes, expected one of {methods}'
        )
    if outcomes is None:
        draws = intervals.resample_counts(correct, sizes)
        drawn_sizes = {task: np.full(intervals.NUM_DRAWS, float(n)) for task, n in sizes.items()}
    else:
        answers = {task: _answers(task, outcomes, correct[task], sizes[task]) for task in correct}
        draws, drawn_sizes = intervals.resample(answers, clusters)

    rows = []
    for task, right in correct.items():
        domain = (domains or HELDOUT_DOMAINS).get(task, 'unknown')
        row = _row(task, domain, sizes[task], right, reference_methods)
        row |= _differences(right, draws[task], sizes[task], drawn_sizes[task])
        if outcomes is not None:
            row['mcnemar'] = paired_tests(answers[task])
        rows.append(row)
    losses = _losses(nll or {}, correct, clusters)
    for row in rows:
        row |= losses['rows'].get(row['task'], {'nll': {}, 'nll_gap_recovered': {}})

    usable = [row['task'] for row in rows if row['usable']]
    pooled, pooled_tasks = _pooled_gap(usable, correct, draws)
    learned = {task: [m for m in correct[task] if m not in reference_methods] for task in usable}
    result: dict[str, Any] = {
        'rows': rows,
        'headline': _headline(usable, correct, sizes, learned),
        'headline_chance': None,
        'usable': usable,
        'excluded': [row['task'] for row in rows if not row['usable']],
        'pooled_gap_recovered': pooled,
        'pooled_tasks': pooled_tasks,
        'pooled_nll_gap_recovered': losses['pooled'],
        'learned_methods': [m for m in methods if m not in reference_methods],
        'selected_method': selected_method,
        'selected_minus_mean_pp': _selected_minus_mean(
            selected_method, usable, correct, sizes, draws, drawn_sizes
        ),
        'bootstrap': {
            'kind': 'independent binomials' if outcomes is None else 'joint over items',
            'draws': intervals.NUM_DRAWS,
            'seed': intervals.SEED,
            'linked_tasks': [g for g in intervals.linked_groups(clusters or {}) if len(g) > 1],
        },
    }
    if outcomes is not None and result['headline'] is not None:
        result['headline_chance'] = best_of_chance(
            {t: {m: answers[t][m] for m in ['mean', *learned[t]]} for t in usable},
            result['headline'],
        )
    return result


def _checked(task: str, row: Mapping[str, int]) -> tuple[int, dict[str, int]]:
    """Splits a task's counts into n and {method: correct}, refusing impossible ones."""
    for name in ('n', 'base', 'oracle'):
        if name not in row:
            raise InputError(f'counts of {task}: no {name!r}, expected n, base and oracle')
    numbers = {}
    for name, value in row.items():
        try:
            numbers[name] = operator.index(value)
        except TypeError:
            raise InputError(
                f'counts of {task}: {name} = {value!r}, expected a whole number'
            ) from None
    n = numbers.pop('n')
    if n < 0:
        raise InputError(f'counts of {task}: n = {n}, expected 0 or more')
    for method, value in numbers.items():
        if not 0 <= value <= n:
            raise InputError(f'counts of {task}: {method} = {value}, expected 0 to n = {n}')
    return n, numbers


def _answers(
    task: str, outcomes: Outcomes, correct: Mapping[str, int], n: int
) -> dict[str, Floats]:
    """Returns {method: float64[n]} of 0 and 1, checked against the counts."""
    arrays = {}
    for method, value in correct.items():
        if task not in outcomes or method not in outcomes[task]:
            raise InputError(f'outcomes of {task}: no answers of {method}, only a count')
        arrays[method] = np.asarray(outcomes[task][method], np.float64)
        if arrays[method].shape != (n,) or int(arrays[method].sum()) != value:
            raise InputError(
                f'outcomes of {task}: {method} has {int(arrays[method].sum())} correct of '
                f'{arrays[method].size}, expected {value} of {n}'
            )
    return arrays


def _row(
    task: str, domain: str, n: int, correct: Mapping[str, int], reference: Sequence[str]
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


def _differences(
    correct: Mapping[str, int], draws: Mapping[str, Floats], n: int, drawn_n: Floats
) -> dict[str, Any]:
    """Differences to base and mean in percentage points, and our own usable rule."""
    if n == 0:
        return {'oracle_minus_base_ci95_pp': None, 'usable_ci': False, 'difference_pp': {}}
    differences: dict[str, dict[str, list[float]]] = {}
    drawn_n = np.maximum(drawn_n, 1)
    for method in correct:
        for other in ('base', 'mean'):
            if other in correct and method != other:
                point = 100 * (correct[method] - correct[other]) / n
                ends = intervals.percentiles(100 * (draws[method] - draws[other]) / drawn_n)
                differences.setdefault(method, {})[other] = [point, *ends]
    _, low, high = differences['oracle']['base']
    return {
        'oracle_minus_base_ci95_pp': [low, high],
        'usable_ci': low > 0,
        'difference_pp': differences,
    }


def _headline(
    usable: Sequence[str],
    correct: Mapping[str, Mapping[str, int]],
    sizes: Mapping[str, int],
    learned: Mapping[str, Sequence[str]],
) -> float | None:
    """The seed's headline: best learned method minus mean, averaged over usable rows."""
    leads = [
        (max(correct[task][m] for m in learned[task]) - correct[task]['mean']) / sizes[task]
        for task in usable
        if learned[task] and 'mean' in correct[task]
    ]
    return sum(leads) / len(leads) if leads else None


def _pooled_gap(
    usable: Sequence[str],
    correct: Mapping[str, Mapping[str, int]],
    draws: Mapping[str, Mapping[str, Floats]],
) -> tuple[dict[str, list[float | None]], dict[str, list[str]]]:
    """sum(method - base) / sum(oracle - base) in items, over the usable rows it answered."""
    pooled: dict[str, list[float | None]] = {}
    pooled_tasks = {}
    for method in dict.fromkeys(m for row in correct.values() for m in row):
        tasks = [task for task in usable if method in correct[task]]
        if method in ('base', 'oracle') or not tasks:
            continue
        gain = sum(correct[t][method] - correct[t]['base'] for t in tasks)
        gap = sum(correct[t]['oracle'] - correct[t]['base'] for t in tasks)
        ends = intervals.ratio_interval(
            np.sum([draws[t][method] - draws[t]['base'] for t in tasks], axis=0),
            np.sum([draws[t]['oracle'] - draws[t]['base'] for t in tasks], axis=0),
        )
        pooled[method] = [gain / gap, *ends]  # usable rows have gap > 0
        pooled_tasks[method] = tasks
    return pooled, pooled_tasks


def _selected_minus_mean(
    method: str | None,
    usable: Sequence[str],
    correct: Mapping[str, Mapping[str, int]],
    sizes: Mapping[str, int],
    draws: Mapping[str, Mapping[str, Floats]],
    drawn_sizes: Mapping[str, Floats],
) -> list[float] | None:
    """The fixed method minus mean, averaged over usable rows: [pp, low, high]."""
    tasks = [t for t in usable if method in correct[t] and 'mean' in correct[t]]
    if method is None or not tasks:
        return None
    point = np.mean([(correct[t][method] - correct[t]['mean']) / sizes[t] for t in tasks])
    drawn = [(draws[t][method] - draws[t]['mean']) / np.maximum(drawn_sizes[t], 1) for t in tasks]
    return [100 * float(point), *intervals.percentiles(100 * np.mean(drawn, axis=0))]


def _losses(
    nll: Outcomes,
    correct: Mapping[str, Mapping[str, int]],
    clusters: Mapping[str, Sequence[Hashable]] | None,
) -> dict[str, Any]:
    """Losses of the reference answers: per row, and pooled over rows where oracle < base."""
    losses = {
        task: {m: np.atleast_1d(np.asarray(v, np.float64)) for m, v in nll[task].items()}
        for task in correct
        if nll.get(task)
    }
    names = {t: c for t, c in (clusters or {}).items() if t in losses}
    paired = all(v.size == len(names[t]) for t in names for v in losses[t].values())
    draws, drawn_sizes = intervals.resample(losses, names if paired else None)
    rows = {}
    tasks = []
    means = {t: {m: float(v.mean()) for m, v in row.items()} for t, row in losses.items()}
    for task, mean in means.items():
        gap = mean['base'] - mean['oracle'] if {'base', 'oracle'} <= mean.keys() else 0.0
        if gap > 0:
            tasks.append(task)
        rows[task] = {
            'nll': mean,
            'nll_gap_recovered': {
                m: (mean['base'] - v) / gap if gap > 0 else None
                for m, v in mean.items()
                if m not in ('base', 'oracle')
            },
        }
    pooled = {}
    for method in dict.fromkeys(m for t in tasks for m in means[t]):
        held = [t for t in tasks if method in means[t]]
        if method in ('base', 'oracle'):
            continue

        def drop(better: str, held: list[str] = held) -> Floats:
            return np.sum(
                [(draws[t]['base'] - draws[t][better]) / drawn_sizes[t] for t in held], axis=0
            )

        point = sum(means[t]['base'] - means[t][method] for t in held) / sum(
            means[t]['base'] - means[t]['oracle'] for t in held
        )
        pooled[method] = [point, *intervals.ratio_interval(drop(method), drop('oracle'))]
    return {'rows': rows, 'pooled': pooled}
