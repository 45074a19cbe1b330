"""The sections that the seed's report does not have: intervals, tests, loss, provenance."""

from collections.abc import Mapping, Sequence
from typing import Any

from lorajax.evaluation.references import BOUNDS
from lorajax.report.document import Block, Bullets, Column, Figure, Section, Table, Text
from lorajax.report.sections.seed import Config, Results, method_names

MAX_PAIRS = 12  # of training sets that share problems, named in the report


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
        f'{method}, fixed beforehand by leave-one-out on the anchors, recovers '
        f'{value:.3f}{interval} of what retraining gains, pooled over '
        f'{len(part["pooled_tasks"][method])} usable held-outs.'
    )


def primary(results: Results) -> Section:
    """Pooled gap recovered of every method, the one fixed beforehand first."""
    part = results['experiment1']
    selected = part['selected_method']
    pooled, loss = part['pooled_gap_recovered'], part['pooled_nll_gap_recovered']
    methods = sorted({**pooled, **loss}, key=lambda m: m != selected)
    rows = [
        [
            m,
            m == selected,
            pooled.get(m),
            len(part['pooled_tasks'].get(m, [])),
            loss.get(m),
        ]
        for m in methods
    ]
    kind = part['bootstrap']['kind']
    columns = [
        Column('Method'),
        Column('fixed beforehand'),
        Column('gap_recovered', '.3f', 'sum(method - base) / sum(oracle - base) over items'),
        Column('Held-outs', 'd', 'usable held-outs that it answered'),
        Column('nll_gap_recovered', '.3f', '(L_base - L_method) / (L_base - L_oracle)'),
    ]
    blocks: list[Block] = [Text(primary_sentence(results))]
    if part['selected_minus_mean_pp']:
        value, low, high = part['selected_minus_mean_pp']
        blocks.append(
            Text(
                f'{selected} minus mean, averaged over usable held-outs: {value:+.2f} pp '
                f'[{low:+.2f}, {high:+.2f}].'
            )
        )
    blocks += [
        Figure('gap', 'Pooled gap recovered of every method, by accuracy and by loss'),
        Table(
            columns,
            rows,
            f'Pooled over usable held-outs; 95 % bootstrap intervals, {kind}, '
            f'{part["bootstrap"]["draws"]} draws.',
        ),
    ]
    return Section('Primary number', blocks)


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
        Column('usable (3 pp)', '', "the seed's rule"),
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


def overlap(found: Mapping[str, Any] | None) -> Section:
    """Training against evaluation sets: problems in common.

    Args:
      found: content of data/overlap.json, as `lorajax.tasks.overlap.matrix` makes it.
    """
    title = 'Overlap of training and evaluation sets'
    if not found or not found.get('cells'):
        return Section(title, [Text('The run holds no overlap matrix.')])
    cells = found['cells']
    heldouts = list(dict.fromkeys(held for row in cells.values() for held in row))
    kinds = list(dict.fromkeys(k for row in cells.values() for cell in row.values() for k in cell))
    bad = sum(any(cell.values()) for row in cells.values() for cell in row.values())
    words = {'id': 'same problem id', 'exact': 'same normalised text', 'ngram13': 'common 13-gram'}
    how = ' / '.join(words.get(k, k) for k in kinds)

    def table(counts: Mapping[str, Any], sizes: Mapping[str, Any], caption: str) -> Table:
        columns = [Column('Training set'), Column('examples', 'd'), *map(Column, heldouts)]
        rows = [
            [
                task,
                sizes.get(task),
                *(
                    ' / '.join(str(row[held].get(k, 0)) for k in kinds) if held in row else None
                    for held in heldouts
                ),
            ]
            for task, row in counts.items()
        ]
        return Table(columns, rows, caption)

    blocks: list[Block] = [
        Text(f'{bad} of {sum(map(len, cells.values()))} cells are not zero; expected none.'),
        table(
            cells,
            found.get('train') or {},
            f'Training examples that the evaluation set also holds: {how}.',
        ),
    ]
    before = {
        task: row
        for task, row in (found.get('before_the_rule') or {}).items()
        if any(any(cell.values()) for cell in row.values())
    }
    if before:
        blocks.append(
            table(before, {}, f'What the rule removed, in the whole training pools: {how}.')
        )
    shared = sorted(
        (-number, f'{task} and {other}: {number}')
        for task, others in (found.get('shared_training') or {}).items()
        for other, number in others.items()
    )
    if shared:
        rest = len(shared) - MAX_PAIRS
        more = f'; and {rest} more pairs in data/overlap.json' if rest > 0 else ''
        blocks.append(
            Text(
                'Training examples whose problem another training set holds too (no leak, but '
                'such adapters resemble each other), most first: '
                f'{"; ".join(text for _, text in shared[:MAX_PAIRS])}{more}.'
            )
        )
    priors = found.get('labels_only_prior') or {}
    if priors:
        heads = [Column('Task'), Column('letter'), Column('accuracy', '.3f')]
        heads += [Column('chance', '.3f'), Column('n', 'd')]
        blocks.append(
            Table(
                heads,
                [[t, p['letter'], p['accuracy'], p['chance'], p['n']] for t, p in priors.items()],
                'Answering always the commonest training letter, without reading the question.',
            )
        )
    return Section(title, blocks)


def limits(results: Results) -> Section | None:
    """Pooled gap recovered of the bounds, and how near every update is to the oracle's."""
    found = results.get('bounds') or {}
    if not found.get('run'):
        return None
    columns = [
        Column('Bound'),
        Column('gap_recovered', '.3f', 'sum(bound - base) / sum(oracle - base) over items'),
        Column('nll_gap_recovered', '.3f', '(L_base - L_bound) / (L_base - L_oracle)'),
        Column('what it says'),
    ]
    rows = [
        [name, values['gap_recovered'], values['nll_gap_recovered'], BOUNDS[name]]
        for name, values in found['methods'].items()
    ]
    blocks: list[Block] = [Table(columns, rows, 'References that are no translation.')]
    cosines = found['cosines']
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


def diagnostics(results: Results) -> Section | None:
    """What fitting found out: single numbers and words of each mapping."""
    held = {m: v for m, v in results['diagnostics'].items() if isinstance(v, dict)}
    if not held:
        return None
    names = dict.fromkeys(
        key
        for values in held.values()
        for key, value in values.items()
        if key != 'method' and (value is None or isinstance(value, int | float | str))
    )
    columns = [Column('Method'), *(Column(name, '.4g') for name in names)]
    rows = [[m, *(_scalar(values.get(name)) for name in names)] for m, values in held.items()]
    blocks: list[Block] = [Table(columns, rows)]
    if any(isinstance(values.get('similarity'), dict) for values in held.values()):
        blocks.append(Figure('similarity', 'Cosine between the adapters of a model, as a matrix'))
    return Section('Mapping diagnostics', blocks)


def costs(found: Mapping[str, Any]) -> Section | None:
    """Seconds and memory of every mapping's fit and predictions, on the run's machine."""
    keys = ('fit_seconds', 'predict_seconds', 'peak_memory_bytes')
    known = {
        name: [values[key] for key in keys]
        for name, values in found.items()
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


def training(has_curves: bool) -> Section | None:
    """Loss curves, where metrics.jsonl has some."""
    figure = Figure('loss', 'Training loss of every adapter, and tokens per second, over steps')
    return Section('Training', [figure]) if has_curves else None


def provenance(config: Config) -> Section:
    """Everything that config.json states, so that the run can be repeated."""
    rows = [[name, text] for name, text in _flatten(config)]
    return Section('Provenance', [Table([Column('Setting'), Column('Value')], rows)])


def reading_guide() -> Section:
    """What the words mean."""
    return Section(
        'How to read this',
        [
            Bullets(
                [
                    'base: the target model without an adapter. oracle: with an adapter trained on '
                    'the target model itself. mean: the average of the anchor adapters.',
                    'gap_recovered: (method - base) / (oracle - base). 0 is no better than no '
                    'adapter, 1 as good as retraining, below 0 harmful.',
                    'Intervals are 95 %: Wilson for single rates, bootstrap over items (the same '
                    'items for all methods) for differences and ratios. They do not cover '
                    'retraining the adapters with another seed. A paired interval of width 0 says '
                    'that no item differed, not that none could.',
                ]
            )
        ],
    )


def _scalar(value: Any) -> Any:
    """A value that fits a cell, else nothing."""
    return value if isinstance(value, int | float | str) else None


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
