"""What training and evaluation sets have in common, and what a blind guess scores."""

from collections.abc import Mapping
from typing import Any

from lorajax.report.document import Block, Column, Section, Table, Text

MAX_PAIRS = 12  # of training sets that share problems, named in the report


def overlap(matrix: Mapping[str, Any] | None) -> Section:
    """Training against evaluation sets: problems in common.

    Args:
      matrix: content of data/overlap.json, as `lorajax.tasks.overlap.matrix` makes it.
    """
    title = 'Overlap of training and evaluation sets'
    if not matrix or not matrix.get('cells'):
        return Section(title, [Text('The run holds no overlap matrix.')])
    cells = matrix['cells']
    heldouts = list(dict.fromkeys(name for row in cells.values() for name in row))
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
                    ' / '.join(str(row[name].get(k, 0)) for k in kinds) if name in row else None
                    for name in heldouts
                ),
            ]
            for task, row in counts.items()
        ]
        return Table(columns, rows, caption)

    blocks: list[Block] = [
        Text(f'{bad} of {sum(map(len, cells.values()))} cells are not zero; expected none.'),
        table(
            cells,
            matrix.get('train') or {},
            f'Training examples that the evaluation set also holds: {how}.',
        ),
    ]
    before = {
        task: row
        for task, row in (matrix.get('before_the_rule') or {}).items()
        if any(any(cell.values()) for cell in row.values())
    }
    if before:
        blocks.append(
            table(before, {}, f'What the rule removed, in the whole training pools: {how}.')
        )
    shared = sorted(
        (-number, f'{task} and {other}: {number}')
        for task, others in (matrix.get('shared_training') or {}).items()
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
    priors = matrix.get('labels_only_prior') or {}
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
