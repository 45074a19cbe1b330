"""Experiments 2 and 3: which cells there are, and that each is answered once."""

import numpy as np
import pytest

from lorajax import mapping
from lorajax.errors import InputError
from lorajax.evaluation import ablations
from tests.mapping.worlds import make_world

ANCHORS = tuple(f'task{i}' for i in range(8))
DOMAINS = {task: ('math', 'code')[i % 2] for i, task in enumerate(ANCHORS)}


def test_scaling_crosses_counts_with_top_k_and_draws():
    rows = ablations.anchor_scaling(ANCHORS, (4, 8, 99), (1, 2, 4), 3, ('global_ridge',), 0)
    cells = [(r.labels['anchors'], r.labels['top_k'], r.labels['draw']) for r in rows]
    assert len(set(cells)) == len(cells)
    four = {(4, k, draw) for k in (1, 2, 'all') for draw in range(3)}  # the nearest 4 of 4 are all
    assert set(cells) == four | {(8, k, 0) for k in (1, 2, 4, 'all')}
    names = {r.labels['top_k']: r.cell.method for r in rows}
    assert names[2] == 'topk2_global_ridge'
    assert names['all'] == 'global_ridge'
    assert all(len(r.cell.anchors) == r.labels['anchors'] for r in rows)


def test_a_draw_grows_by_adding_anchors_and_depends_on_the_seed():
    def drawn(seed):
        rows = ablations.anchor_scaling(ANCHORS, (2, 4, 6), (), 2, ('mean',), seed)
        return {(r.labels['anchors'], r.labels['draw']): set(r.cell.anchors) for r in rows}

    first = drawn(0)
    for draw in range(2):
        assert first[2, draw] < first[4, draw] < first[6, draw]
    assert drawn(0) == first != drawn(1)


def test_only_ridge_of_the_seed_has_nearest_anchors():
    rows = ablations.anchor_scaling(ANCHORS, (4,), (1, 2), 1, ('delta_ridge', 'pertensor_ridge'), 0)
    methods = [r.cell.method for r in rows]
    assert methods == [
        'delta_ridge', 'topk1_pertensor_ridge', 'topk2_pertensor_ridge', 'pertensor_ridge',
    ]  # fmt: skip


def test_pools_are_the_domains_and_everything():
    rows = ablations.domain_transfer(ANCHORS, DOMAINS, ('mean',))
    pools = {r.labels['pool']: r.cell.anchors for r in rows}
    assert pools == {'math': ANCHORS[::2], 'code': ANCHORS[1::2], 'all': ANCHORS}


@pytest.fixture
def setting():
    source, target = make_world()
    queries = {'held0': source['task1'], 'held1': source['task6']}
    main = {
        task: {'global_ridge': [{'task': task, 'method': 'global_ridge', 'item': 'from main'}]}
        for task in queries
    }
    anchors = mapping.Anchors(source, 'source'), mapping.Anchors(target, 'target')
    inputs = ablations.Inputs(*anchors, queries, {}, main, group=3)
    plan = {
        'experiment2': ablations.anchor_scaling(ANCHORS, (4, 8), (1, 2), 2, ('global_ridge',), 0),
        'experiment3': ablations.domain_transfer(
            ANCHORS, DOMAINS, ('global_ridge', 'topk2_global_ridge')
        ),
    }
    return plan, inputs


class Scorer:
    """Answers with the norm of each adapter, and remembers what it was asked."""

    def __init__(self, fail_at=None):
        self.asked, self.fail_at = [], fail_at

    def __call__(self, task, adapters):
        if len(self.asked) == self.fail_at:
            raise KeyboardInterrupt
        self.asked.append((task, *adapters))
        return [
            {
                'task': task,
                'method': name,
                'item': 'i',
                'correct': True,
                'norm': float(np.linalg.norm(adapter['layers']['q_proj']['b'])),
            }
            for name, adapter in adapters.items()
        ]


def test_every_cell_is_answered_once_with_its_own_mapping(setting, tmp_path):
    plan, inputs = setting
    score = Scorer()
    answers = ablations.answer(plan, inputs, score, tmp_path)
    asked = [(task, name) for task, *names in score.asked for name in names]
    assert len(set(asked)) == len(asked)
    cells = {row.cell for rows in plan.values() for row in rows}
    # All anchors with global_ridge stand in the main table; no other cell does.
    assert len(asked) == 2 * (len(cells) - 1)
    for task, query in inputs.queries.items():
        for experiment, lines in plan.items():
            rows = answers[experiment][task]
            assert len(rows) == len(lines)
            for row, line in zip(rows, lines, strict=True):
                assert row.items() >= line.labels.items()
                if line.cell.method == 'global_ridge' and len(line.cell.anchors) == 8:
                    assert row['item'] == 'from main'
                    continue
                pair = (
                    {name: side.trees[name] for name in line.cell.anchors}
                    for side in (inputs.source, inputs.target)
                )
                prediction = mapping.fit(line.cell.method, *pair).explain(query)
                norm = np.linalg.norm(prediction.adapter['layers']['q_proj']['b'])
                assert row['norm'] == pytest.approx(float(norm), rel=1e-4)
                if line.cell.method.startswith('topk'):
                    assert row['selected'] == prediction.report['selected']


def test_killed_ablations_go_on_where_they_stopped(setting, tmp_path):
    plan, inputs = setting
    whole = Scorer()
    undisturbed = ablations.answer(plan, inputs, whole, tmp_path / 'whole')
    first, second = Scorer(fail_at=5), Scorer()
    with pytest.raises(KeyboardInterrupt):
        ablations.answer(plan, inputs, first, tmp_path / 'killed')
    continued = ablations.answer(plan, inputs, second, tmp_path / 'killed')
    assert first.asked + second.asked == whole.asked
    assert continued == undisturbed


def test_a_damaged_group_of_cells_is_named(setting, tmp_path):
    plan, inputs = setting
    ablations.answer(plan, inputs, Scorer(), tmp_path)
    path = next(tmp_path.rglob('*.jsonl'))
    path.write_bytes(path.read_bytes().replace(b'true', b'null', 1))
    with pytest.raises(InputError, match=f'{path.name}: corrupt'):
        ablations.answer(plan, inputs, Scorer(), tmp_path)
