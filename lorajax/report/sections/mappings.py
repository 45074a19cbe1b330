"""What fitting the mappings found out and cost, and what bounds any translation."""

from collections.abc import Mapping
from typing import Any

from lorajax.evaluation.references import REFERENCES
from lorajax.report.document import Block, Column, Figure, Section, Table
from lorajax.report.sections.seed import Results


def references(results: Results) -> Section | None:
    """Pooled gap recovered of the references, and how near every update is to the oracle's."""
    part = results.get('references') or {}
    if not part.get('run'):
        return None
    columns = [
        Column('Reference'),
        Column('gap_recovered', '.3f', 'sum(reference - base) / sum(oracle - base) over items'),
        Column('nll_gap_recovered', '.3f', '(L_base - L_reference) / (L_base - L_oracle)'),
        Column('what it says'),
    ]
    rows = [
        [name, values['gap_recovered'], values['nll_gap_recovered'], REFERENCES[name]]
        for name, values in part['methods'].items()
    ]
    blocks: list[Block] = [Table(columns, rows, 'References that are no translation.')]
    blocks += _over_placebo(results)
    cosines = part['cosines']
    methods = list(dict.fromkeys(name for row in cosines.values() for name in row))
    if methods:
        blocks.append(
            Table(
                [Column('Update of'), *(Column(task, '.3f') for task in cosines)],
                [[name, *(row.get(name) for row in cosines.values())] for name in methods],
                "Cosine with the oracle's update. That of the repeated training is the most that a "
                'translation can be expected to have.',
            )
        )
    return Section('What bounds a translation', blocks)


def _over_placebo(results: Results) -> list[Block]:
    """What of every method's gain is more than a map that does not know the task has."""
    least = results['references']['methods'].get('placebo', {}).get('gap_recovered')
    if not least or least[0] >= 1:
        return []
    pooled = results['experiment1']['pooled_gap_recovered']
    rows = [[m, (gap[0] - least[0]) / (1 - least[0])] for m, gap in pooled.items()]
    columns = [
        Column('Method'),
        Column('over the placebo', '.3f', '(method - placebo) / (oracle - placebo)'),
    ]
    return [Table(columns, rows, 'Gap recovered, counted from the placebo.')]


def source_side(results: Results) -> Section | None:
    """What the source can do with its adapters, and what every method loses of it."""
    part = results.get('source') or {}
    if not part.get('run'):
        return None
    tasks = part['tasks']
    columns = [
        Column('Task'),
        Column('n', 'd'),
        Column('source, bare', '.3f', 'accuracy of the source model'),
        Column('source, with its adapter', '.3f', 'accuracy of what is to be translated'),
    ]
    rows = [[task, row['n'], row['base'], row['adapter']] for task, row in tasks.items()]
    methods = list(dict.fromkeys(m for row in tasks.values() for m in row['flips']))
    flips = [[m, *(_pooled(tasks, m, kind) for kind in ('negative', 'positive'))] for m in methods]
    return Section(
        'Beside the source',
        [
            Table(columns, rows, 'The same items, asked of the source model.'),
            Table(
                [
                    Column('Method'),
                    Column('lost', '.3f', 'items that the source answers rightly, and it wrongly'),
                    Column('won', '.3f', 'items that it answers rightly, and the source wrongly'),
                ],
                flips,
                'Share of all items. A user of the old model sees what is lost.',
            ),
        ],
    )


def _pooled(tasks: Mapping[str, Any], method: str, kind: str) -> float | None:
    """Returns the share of flips over the items of all tasks that a method answered."""
    found = [
        (row['n'], row['flips'][method][kind]) for row in tasks.values() if method in row['flips']
    ]
    total = sum(n for n, _ in found)
    return sum(n * share for n, share in found) / total if total else None


def diagnostics(results: Results) -> Section | None:
    """What fitting found out: single numbers and words of each mapping."""
    fitted = {m: v for m, v in results['diagnostics'].items() if isinstance(v, dict)}
    if not fitted:
        return None
    names = dict.fromkeys(
        key
        for values in fitted.values()
        for key, value in values.items()
        if key != 'method' and (value is None or isinstance(value, int | float | str))
    )
    columns = [Column('Method'), *(Column(name, '.4g') for name in names)]
    rows = [[m, *(_scalar(values.get(name)) for name in names)] for m, values in fitted.items()]
    blocks: list[Block] = [Table(columns, rows), *_sizes(fitted)]
    if any(isinstance(values.get('similarity'), dict) for values in fitted.values()):
        blocks.append(Figure('similarity', 'Cosine between the adapters of a model, as a matrix'))
    return Section('Mapping diagnostics', blocks)


def _sizes(fitted: Mapping[str, Any]) -> list[Block]:
    """How long the predictions are, and what their truncation to the output's rank lost."""
    rows = []
    for method, values in fitted.items():
        reports = (values.get('predictions') or {}).values()
        found = [[r.get(key) for r in reports] for key in ('norm_ratio', 'energy_lost')]
        if reports and all(number is not None for numbers in found for number in numbers):
            ratios, lost = found
            rows.append([method, sum(ratios) / len(ratios), min(ratios), max(ratios), max(lost)])
    columns = [
        Column('Method'),
        Column('norm ratio', '.3f', "norm of a prediction over the anchors' mean norm, mean"),
        Column('least', '.3f'),
        Column('greatest', '.3f'),
        Column('energy lost, most', '.4f', 'share of the squared norm that truncation removed'),
    ]
    return [Table(columns, rows, 'Predictions of the held-outs, by size.')] if rows else []


def costs(by_method: Mapping[str, Any]) -> Section | None:
    """Seconds and memory of every mapping's fit and predictions, on the run's machine."""
    keys = ('fit_seconds', 'predict_seconds', 'peak_memory_bytes')
    known = {
        name: [values[key] for key in keys]
        for name, values in by_method.items()
        if all(key in values for key in keys)
    }
    rows = [[name, fit, predict, memory / 1e9] for name, (fit, predict, memory) in known.items()]
    if not rows:
        return None
    columns = [
        Column('Method'),
        Column('fit, s', '.2f', 'inner products count for the first method that needs them'),
        Column('all held-outs, s', '.2f'),
        Column('memory, GB', '.2f', 'highest of the process so far'),
    ]
    return Section('Cost of the mappings', [Table(columns, rows)])


def _scalar(value: Any) -> Any:
    """A value that fits a cell, else nothing."""
    return value if isinstance(value, int | float | str) else None
