"""The run itself: its training curves, its settings, and how to read its report."""

from collections.abc import Mapping, Sequence
from typing import Any

from lorajax.evaluation.roles import does
from lorajax.report.document import Bullets, Column, Figure, Section, Table
from lorajax.report.sections.seed import Config

_TIMES = ('seconds', 'compile_count', 'compile_seconds', 'compile_cached')  # of a stage's row


def training(has_curves: bool) -> Section | None:
    """Loss curves, where metrics.jsonl has some."""
    figure = Figure('loss', 'Training loss of every adapter, and tokens per second, over steps')
    return Section('Training', [figure]) if has_curves else None


def times(metrics: Sequence[Mapping[str, Any]]) -> Section | None:
    """How long every stage took, and what of it was compiling.

    A stage that was killed and went on, or that several processes divided, is the sum of them. The
    report itself is left out, as it is not done when it is written.
    """
    totals: dict[str, list[float]] = {}
    for row in metrics:
        if row.get('event') == 'stage' and row['stage'] != 'report':
            total = totals.setdefault(row['stage'], [0.0] * len(_TIMES))
            for index, name in enumerate(_TIMES):
                total[index] += row[name]
    if not totals:
        return None
    columns = [
        Column('Stage'),
        Column('Seconds', '.1f'),
        Column('Programs compiled', '.0f'),
        Column('Seconds of compiling', '.1f', 'and of reading compiled programs from the disk'),
        Column('Programs taken from the disk', '.0f'),
    ]
    return Section('Time', [Table(columns, [[name, *total] for name, total in totals.items()])])


def provenance(config: Config) -> Section:
    """Everything that config.json states, so that the run can be repeated."""
    rows = [[name, text] for name, text in _flatten(config)]
    return Section('Provenance', [Table([Column('Setting'), Column('Value')], rows)])


def reading_guide(methods: Sequence[str]) -> Section:
    """What the words mean, and what each of some methods does."""
    words = [[method, does(method)] for method in methods if does(method)]
    return Section(
        'How to read this',
        [
            Bullets(
                [
                    'source, target: the old and the new base model. anchor: a task with an '
                    'adapter on both, from which mappings are learned. held-out: a task whose '
                    'adapter on the target is predicted; it is usable if retraining gains 3 '
                    'points or more.',
                    'base: the target model without an adapter. oracle: with an adapter trained on '
                    'the target model itself. mean: the average of the anchor adapters.',
                    'gap_recovered: (method - base) / (oracle - base). 0 is no better than no '
                    'adapter, 1 as good as retraining, below 0 harmful.',
                    'Intervals are 95 %: Wilson for single rates, bootstrap over items (the same '
                    'items for all methods) for differences and ratios. They do not cover '
                    'retraining the adapters with another seed. A paired interval of width 0 says '
                    'that no item differed, not that none could.',
                ]
            ),
            Table([Column('Method'), Column('What it does')], words),
        ],
    )


def _flatten(value: Any, name: str = '') -> Sequence[tuple[str, str]]:
    """Nested settings as (dotted name, text) pairs in sorted order."""
    if isinstance(value, Mapping) and value:
        if name and not any(isinstance(v, Mapping | list) for v in value.values()):
            return [(name, '; '.join(f'{key} = {value[key]}' for key in sorted(value)))]
        return [
            pair
            for key in sorted(value)
            for pair in _flatten(value[key], f'{name}.{key}' if name else str(key))
        ]
    if isinstance(value, list):
        return [(name, ', '.join(map(str, value)))]
    return [(name, 'not set' if value is None else str(value))]
