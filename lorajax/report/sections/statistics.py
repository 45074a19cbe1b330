"""Experiment 1 as the seed's report does not show it: intervals, paired tests, loss."""

from typing import Any

from lorajax.evaluation.roles import TRAINED_METHODS, needs
from lorajax.report.document import Bar, Block, Chart, Column, Section, Table, Text
from lorajax.report.sections.seed import Results, method_names

_KINDS = {
    'selected': 'fixed beforehand',
    'learned': 'learned from pairs of adapters',
    'trained': 'also trains on the target model',
    'control': 'control: learns no map',
}


def primary_sentence(results: Results) -> str:
    """Says the primary number in one sentence."""
    part = results['experiment1']
    method = part['selected_method']
    if method is None:
        return 'There is none: no method was fixed before the held-outs were scored.'
    if method not in part['pooled_gap_recovered']:
        return f'There is none: no held-out is usable ({method} was fixed beforehand).'
    value, low, high = part['pooled_gap_recovered'][method]
    interval = '' if low is None else f' (95 % interval {low:.3f} to {high:.3f})'
    return (
        f'{method}, fixed beforehand by leave-one-out on the anchors, keeps {value:.3f}{interval} '
        f'of what retraining gains, over {len(part["pooled_tasks"][method])} tasks that no mapping '
        'has seen.'
    )


def kind_of(method: str, results: Results) -> str:
    """Returns the kind of a method, a key of the chart's legend."""
    part = results['experiment1']
    if method == part['selected_method']:
        return 'selected'
    if method in TRAINED_METHODS:
        return 'trained'
    return 'learned' if method in part['learned_methods'] else 'control'


def primary(results: Results) -> Section:
    """The chart of all methods and their table, best first."""
    part = results['experiment1']
    pooled, loss = part['pooled_gap_recovered'], part['pooled_nll_gap_recovered']
    methods = sorted({**pooled, **loss}, key=lambda m: -(pooled.get(m) or loss[m])[0])
    accuracy = {m: _mean_accuracy(results, m) for m in ('base', *methods, 'oracle')}
    rows = [
        [
            m,
            pooled.get(m),
            accuracy[m],
            loss.get(m),
            needs(m),
            len(part['pooled_tasks'].get(m, [])),
        ]
        for m in methods
    ]
    rows += [
        ['no adapter (base)', 0.0, accuracy['base'], 0.0, 'nothing', None],
        ['retrained (oracle)', 1.0, accuracy['oracle'], 1.0, 'the task, a training', None],
    ]  # fmt: skip
    columns = [
        Column('Method'),
        Column('gap recovered', '.3f', 'sum(method - base) / sum(oracle - base) over items'),
        Column('accuracy', '.3f', 'mean over the usable held-out tasks'),
        Column('loss gap recovered', '.3f', '(L_base - L_method) / (L_base - L_oracle)'),
        Column('needs', '', 'what must be given to make an adapter this way'),
        Column('tasks', 'd', 'usable held-out tasks that it answered'),
    ]
    rest = part.get('without_twins')
    if rest:
        columns.insert(2, Column('without twins', '.3f', 'the same over held-outs that have none'))
        values = [*(rest['pooled_gap_recovered'].get(m) for m in methods), 0.0, 1.0]
        for row, value in zip(rows, values, strict=True):
            row.insert(2, value)
    bars = []
    for m in methods:
        if m in pooled:
            value, low, high = pooled[m]
            bars.append(Bar(m, value, low, high, kind_of(m, results)))
    used = {bar.kind for bar in bars}
    chart = Chart(
        'gap',
        'Share of the gap between no adapter and a retrained one that each method recovers, with '
        '95 % intervals, best first',
        bars,
        {0.0: 'no adapter', 1.0: 'retrained'},
        {kind: words for kind, words in _KINDS.items() if kind in used},
    )
    blocks: list[Block] = [
        chart,
        Table(
            columns,
            rows,
            f'All items of the usable held-out tasks together, best first, with 95 % bootstrap '
            f'intervals ({part["bootstrap"]["kind"]}, {part["bootstrap"]["draws"]} draws).',
        ),
    ]
    if rest:
        pairs = (f'{task} of {", ".join(names)}' for task, names in rest['twins'].items())
        blocks.append(
            Text(f'Twins, whose problems come from the pool of an anchor: {"; ".join(pairs)}.')
        )
    if part['selected_minus_mean_pp']:
        value, low, high = part['selected_minus_mean_pp']
        blocks.append(
            Text(
                f'{part["selected_method"]} minus the mean of the anchors, averaged over usable '
                f'held-out tasks: {value:+.2f} percentage points [{low:+.2f}, {high:+.2f}].'
            )
        )
    return Section('Methods, best first', blocks)


def _mean_accuracy(results: Results, method: str) -> float | None:
    """Accuracy of a method, mean over the usable held-outs that it answered."""
    found = [
        row['accuracy'][method]
        for row in results['experiment1']['rows']
        if row['usable'] and row['accuracy'].get(method) is not None
    ]
    return sum(found) / len(found) if found else None


def counts(results: Results) -> Section:
    """Numbers correct with Wilson intervals."""
    methods = method_names(results)
    rows: list[list[Any]] = []
    for row in results['experiment1']['rows']:
        for method in methods:
            if method in row['correct']:
                low, high = row['ci95'][method] or (None, None)
                rows.append(
                    [
                        row['task'],
                        method,
                        row['correct'][method],
                        row['n'],
                        [row['accuracy'][method], low, high],
                        row['gap_recovered_by_method'].get(method),
                    ]
                )
    columns = [
        Column('Task'),
        Column('Method'),
        Column('correct', 'd'),
        Column('n', 'd'),
        Column('accuracy', '.3f', 'with 95 % Wilson interval'),
        Column('gap_recovered', '.3f', '(method - base) / (oracle - base) of this row'),
    ]
    usable = [
        [
            row['task'],
            row['oracle_minus_base_pp'],
            row['oracle_minus_base_ci95_pp'],
            row['usable'],
            row['usable_ci'],
        ]
        for row in results['experiment1']['rows']
    ]
    rules = [
        Column('Task'),
        Column('oracle_minus_base_pp', '.2f'),
        Column('95 % interval', '.2f', 'paired where answers are known'),
        Column('usable (3 pp)', '', 'the rule of the published experiment'),
        Column('usable (interval)', '', 'the interval excludes 0'),
    ]
    return Section('Counts and intervals', [Table(rules, usable), Table(columns, rows)])


def paired(results: Results) -> Section | None:
    """Differences to mean and base on the same items."""
    rows: list[list[Any]] = []
    for row in results['experiment1']['rows']:
        for method, others in row.get('mcnemar', {}).items():
            for other, test in others.items():
                if (method, other) != ('base', 'mean'):
                    rows.append(
                        [
                            row['task'],
                            method,
                            other,
                            row['difference_pp'].get(method, {}).get(other),
                            test['gained'],
                            test['lost'],
                            test['p_value'],
                        ]
                    )
    if not rows:
        return None
    columns = [
        Column('Task'),
        Column('Method'),
        Column('against'),
        Column('difference_pp', '+.1f', 'percentage points, paired bootstrap interval'),
        Column('gained', 'd', 'items that only the method gets right'),
        Column('lost', 'd', 'items that only the other gets right'),
        Column('p', '.3g', 'exact McNemar test, two-sided, not corrected'),
    ]
    return Section(
        'Paired tests',
        [Table(columns, rows, 'Exact McNemar tests and paired bootstrap on the same items.')],
    )


def loss(results: Results) -> Section | None:
    """Loss of the reference answers, the sensitive endpoint."""
    rows = [row for row in results['experiment1']['rows'] if row['nll']]
    if not rows:
        return None
    methods = [m for m in method_names(results) if any(m in row['nll'] for row in rows)]
    middle = [m for m in methods if m not in ('base', 'oracle')]
    return Section(
        'Held-out loss',
        [
            Table(
                [Column('Task'), *(Column(m, '.3f') for m in methods)],
                [[row['task'], *(row['nll'].get(m) for m in methods)] for row in rows],
                'Loss of the reference answers, nats per answer token, mean over items.',
            ),
            Table(
                [Column('Task'), *(Column(m, '.3f') for m in middle)],
                [[r['task'], *(r['nll_gap_recovered'].get(m) for m in middle)] for r in rows],
                'nll_gap_recovered: (L_base - L_method) / (L_base - L_oracle).',
            ),
        ],
    )


def scoring(results: Results) -> Section | None:
    """Rates that the scorers report beside right or wrong."""
    methods = method_names(results)
    rows = [
        [row['task'], entry, *(rates.get(m) for m in methods)]
        for row in results['experiment1']['rows']
        for entry, rates in row.get('details', {}).items()
    ]
    if not rows:
        return None
    columns = [Column('Task'), Column('Share of items'), *(Column(m, '.3f') for m in methods)]
    return Section('Scoring details', [Table(columns, rows)])
