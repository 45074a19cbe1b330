"""The sections of the seed's ROUND4_REPORT, in its order, with this run's numbers."""

from collections.abc import Mapping
from typing import Any

from lorajax.report.document import Block, Bullets, Column, Figure, Section, Table, Text

Results = Mapping[str, Any]
Config = Mapping[str, Any]

# The recipe of the seed's Round 4 report.
SEED_RECIPE = {
    'lora_rank': 16,
    'lora_alpha': 32,
    'lora_targets': [
        'q_proj',
        'k_proj',
        'v_proj',
        'o_proj',
        'gate_proj',
        'up_proj',
        'down_proj',
    ],
    'num_epochs': 3,
    'train_per_task': 1500,
    'eval_per_task': 300,
    'learning_rate': 2e-4,
    'dtype': 'bfloat16',
    'max_len': 512,
}
NOT_RUN = 'Not run.'


def recipe(results: Results, config: Config) -> Section:
    """Stands where the seed lists its changes: the pool, the recipe, what differs."""
    anchors, heldouts = config.get('anchors') or [], config.get('heldouts') or []
    differences = [
        f'{name} {_plain(config[name])} (published {_plain(value)})'
        for name, value in SEED_RECIPE.items()
        if config.get(name) is not None and config[name] != value
    ]
    items = [
        f'Pool: {len(anchors)} matched X/Y anchors ({", ".join(anchors)}), plus {len(heldouts)} '
        f'X held-out conditioning adapters and {len(heldouts)} Y oracle adapters.',
        'Recipe: LoRA r={lora_rank}, alpha={lora_alpha}, targets {lora_targets}, '
        'epochs={num_epochs}, train_per_task={train_per_task}, eval_per_task={eval_per_task}, '
        'lr={learning_rate}, {dtype}, max_len={max_len}.'.format(
            **{name: _plain(config.get(name)) for name in SEED_RECIPE}
        ),
        f'Differences from the published Round 4: {"; ".join(differences) or "none"}.',
    ]
    others = {
        name: config[name]
        for name in ('protocol', 'seed', 'top_k', 'batch_size', 'allow_code_execution')
        if config.get(name) is not None
    }
    if others:
        items.append('; '.join(f'{k} = {_plain(v)}' for k, v in others.items()) + '.')
    return Section('Recipe', [Bullets(items)])


def main_table(results: Results) -> Section:
    """Experiment 1 in the seed's columns."""
    rows = results['experiment1']['rows']
    methods = method_names(results)
    middle = [m for m in methods if m not in ('base', 'oracle')]
    columns = [
        Column('Domain'),
        Column('Task'),
        Column('base_Y', '.3f', 'accuracy of the target model without an adapter'),
        *(Column(m, '.3f', 'accuracy of the target model with this adapter') for m in middle),
        Column('oracle', '.3f', 'accuracy with an adapter trained on the target model itself'),
        Column('oracle_minus_base_pp', '.3f', 'what training gains, in percentage points'),
        Column('usable', '', 'oracle - base is at least 3 pp'),
        Column('gap_recovered', '.3f', '(best of mean and learned - base) / (oracle - base)'),
    ]
    table = [
        [
            row['domain'],
            row['task'],
            *(row['accuracy'].get(m) for m in ['base', *middle, 'oracle']),
            row['oracle_minus_base_pp'],
            row['usable'],
            row['gap_recovered'],
        ]
        for row in rows
    ]
    sizes = ', '.join(f'{row["task"]} {row["n"]}' for row in rows)
    blocks: list[Block] = [
        Text('Rows with oracle - base_Y < 3 pp are flagged as not usable for averages.'),
        Table(columns, table),
        Text(f'Items: {sizes}. {_counted(results)}'),
        Figure(
            'main',
            'Accuracy of every method on each held-out, bars with 95 % Wilson intervals',
        ),
    ]
    return Section('Experiment 1 — Main table', blocks)


def _counted(results: Results) -> str:
    """Says which methods the column gap_recovered chooses from."""
    among = set(method_names(results)) - {'base', 'oracle'}
    learned = set(results['experiment1']['learned_methods'])
    text = (
        'gap_recovered here is that of the best method of each row, which is optimistic. It counts '
        f'{", ".join(m for m in method_names(results) if m == "mean" or m in learned)}'
    )
    others = [m for m in method_names(results) if m in among - learned - {'mean'}]
    return f'{text}; not {", ".join(others)}.' if others else f'{text}.'


def headline(results: Results) -> Section:
    """The seed's headline, and what chance alone would give."""
    part = results['experiment1']
    value, chance = part['headline'], part['headline_chance']
    items = [
        'Best learned method minus mean baseline, averaged over usable held-outs: '
        + ('not defined' if value is None else f'{value:.4f}'),
        f'Usable held-outs: {", ".join(part["usable"]) or "none"}',
        f'Excluded held-outs: {", ".join(part["excluded"]) or "none"}',
    ]
    if value is not None:
        note = 'Optimistic: the best of several methods is picked after the fact, row by row.'
        if chance:
            note += (
                f' If all learned methods and mean were equally good, their disagreement alone '
                f'would give {chance["expected"]:+.4f} on average, and at least the observed '
                f'value with probability {chance["p_value"]:.3f}.'
            )
        items.append(note)
    return Section('Headline', [Bullets(items)])


def topk_log(results: Results) -> Section:
    """Which anchors each top-k method picked for each held-out."""
    topk = results['topk']
    if not topk:
        return Section('Top-K selection log', [Text('No top-k method was run.')])
    rows = [
        [row['task'], *(', '.join(topk[m].get(row['task'], [])) or None for m in topk)]
        for row in results['experiment1']['rows']
    ]
    return Section('Top-K selection log', [Table([Column('Held-out'), *map(Column, topk)], rows)])


def scaling(results: Results) -> Section:
    """Experiment 2: pooled gap recovered by number of anchors and top-k."""
    title = 'Experiment 2 — Anchor-count + Top-K scaling'
    part = results['experiment2']
    if not part['run']:
        return Section(title, [Text(NOT_RUN)])
    columns = [
        Column('Method'),
        Column('Anchors', 'd'),
        Column('Top-K'),
        Column('Draws', 'd', 'random choices of that many anchors'),
        Column('Answers', 'd', 'items x draws'),
        Column('Accuracy', '.3f', 'mean over held-outs'),
        Column('gap_recovered', '.3f', 'pooled over usable held-outs, 95 % interval over items'),
        Column('By draw', '', 'gap_recovered of each draw of anchors'),
    ]
    rows = [
        [
            cell['method'],
            cell['anchors'],
            str(cell['top_k']),
            len(cell['draws']),
            cell['n'],
            cell['accuracy'],
            cell['gap_recovered'],
            ' '.join(f'{v:.3f}' for v in cell['gap_recovered_by_draw'] if v is not None) or None,
        ]
        for cell in part['cells']
    ]
    figure = Figure('scaling', 'Pooled gap recovered against number of anchors, a line per top-k')
    return Section(title, [figure, Table(columns, rows)])


def transfer(results: Results) -> Section:
    """Experiment 3: anchors of one domain against held-outs of each."""
    title = 'Experiment 3 — Cross-domain transfer'
    part = results['experiment3']
    if not part['run']:
        return Section(title, [Text(NOT_RUN)])
    best = [
        [domain, _pool(pool), _selections(results, domain, pool)] if pool else [domain, None, None]
        for domain, pool in part['best_pool'].items()
    ]
    columns = [
        Column('Held-out domain'),
        Column('Anchor pool'),
        Column('Method'),
        Column('Items', 'd'),
        Column('Accuracy', '.3f', 'mean over the held-outs of the domain'),
        Column('gap_recovered', '.3f', 'pooled over its usable held-outs, 95 % interval'),
    ]
    rows = [
        [
            cell['domain'],
            _pool(cell['pool']),
            cell['method'],
            cell['n'],
            cell['accuracy'],
            cell['gap_recovered'],
        ]
        for cell in part['cells']
    ]
    heads = ['Held-out domain', 'Best anchor pool', 'Top-K actual selections (top-3)']
    return Section(
        title,
        [
            Figure('transfer', 'Heatmap of gap recovered, anchor pool against held-out domain'),
            Table([Column(head) for head in heads], best),
            *_pools(part),
            Table(columns, rows),
        ],
    )


def _pools(part: Mapping[str, Any]) -> list[Block]:
    """How sure it is which pool is best; no pool is left out."""
    rows = [
        [cell['domain'], _pool(cell['pool']), cell['gap_recovered'], cell['behind']]
        for cell in part.get('pools', ())
    ]
    columns = [
        Column('Held-out domain'),
        Column('Anchor pool'),
        Column('gap_recovered', '.3f', 'pooled over methods and usable held-outs, 95 % interval'),
        Column('best pool ahead by', '.3f', 'difference on the same items, 95 % interval'),
    ]
    caption = (
        'Every pool, pooled over methods. All anchors together are more of them and do not compete '
        'for the best; an interval that holds 0 leaves open which pool is better.'
    )
    return [Table(columns, rows, caption)] if rows else []


def method_names(results: Results) -> list[str]:
    """Every method of experiment 1, oracle last."""
    rows = results['experiment1']['rows']
    names = list(dict.fromkeys(m for row in rows for m in row['correct']))
    return [m for m in names if m != 'oracle'] + [m for m in names if m == 'oracle']


def _pool(pool: str) -> str:
    """The seed's name of an anchor pool."""
    return pool if pool == 'all' else f'{pool}-only'


def _selections(results: Results, domain: str, pool: str) -> str | None:
    """The first three anchors that a top-k method picked from a pool, by held-out."""
    tasks = [row['task'] for row in results['experiment1']['rows'] if row['domain'] == domain]
    for pools in results['experiment3']['selected'].values():
        if pool in pools:
            picked = pools[pool]
            return '; '.join(f'{t}: {", ".join(picked[t][:3])}' for t in tasks if t in picked)
    return None


def _plain(value: Any) -> str:
    """A flag's value as people write it."""
    if isinstance(value, list | tuple):
        return ', '.join(map(str, value))
    return 'not stated' if value is None else str(value)
