"""Scores beside the base: shares, losses, and differences paired item by item."""

import numpy as np

from lorajax.evaluation import comparison, intervals


def rows(method, correct, losses, **details):
    return [
        {'task': 't', 'method': method, 'item': f'i{n}', 'correct': bool(right), 'nll': loss,
         'details': details}
        for n, (right, loss) in enumerate(zip(correct, losses, strict=True))
    ]  # fmt: skip


def test_gains_are_paired_with_the_base():
    rng = np.random.default_rng(0)
    hardness = rng.uniform(0, 10, 50)
    base = rows('base', hardness < 3, hardness)
    better = rows('x', hardness < 5, hardness - 0.5)
    found = comparison.compare([*better[::-1], *base])
    assert found['base'].gain is None and found['base'].loss_change is None
    right = int((hardness < 5).sum())
    assert found['x'].num_correct == right and found['x'].num_items == 50
    assert found['x'].accuracy[1:] == tuple(intervals.wilson(right, 50))
    # The losses differ by 0.5 on every item: paired, there is nothing uncertain about it.
    assert np.allclose(found['x'].loss_change, -0.5) and found['x'].loss.low < found['x'].loss.high
    assert found['x'].gain.low <= found['x'].gain.value <= found['x'].gain.high
    assert np.isclose(found['x'].gain.value, (right - (hardness < 3).sum()) / 50)


def test_lines_name_task_method_and_all_numbers():
    answers = [*rows('base', [1, 0], [1.0, 2.0], likeliest_letter=True),
               *rows('x', [1, 1], [None, 1.0])]  # fmt: skip
    base, other = comparison.lines('t', answers)
    assert base.startswith('t  base  1/2 = 0.500 [0.095, 0.905]  1.500 nats per answer token [')
    assert base.endswith('likeliest_letter 1.000')
    assert 'loss is not finite' in other and 'against base: score +0.500 [+0.000, +1.000]' in other


def test_one_item_has_no_interval():
    _, line = comparison.lines('t', [*rows('base', [1], [2.0]), *rows('x', [1], [1.5])])
    assert '1.500 nats per answer token of one item' in line
    assert 'score +0.000 of one item' in line and 'loss -0.500 of one item' in line
