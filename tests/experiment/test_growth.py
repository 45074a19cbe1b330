"""What a run may get more of, and what cannot be mixed."""

import dataclasses

import pytest

from lorajax.errors import ArgumentError
from lorajax.experiment import growth
from lorajax.experiment.config import Experiment

BEGUN = Experiment()
STORED = BEGUN.to_json()


def grown(**more):
    return growth.changes(dataclasses.replace(BEGUN, **more), STORED)


def test_where_and_how_fast_is_no_growth():
    assert grown(workdir='x', stages=('train',), mesh=(1, 1, 1), adapters_per_step=3) == []
    old = {name: value for name, value in STORED.items() if name != 'reweight_prompts'}
    assert growth.changes(BEGUN, old) == []  # of a release that had no such setting


@pytest.mark.parametrize(
    'more',
    [
        {'methods': (*BEGUN.methods, 'stacked')},
        {'anchors': ('toy_math_keep_9', *BEGUN.anchors)},
        {'heldouts': (*BEGUN.heldouts, 'toy_code_keep_9')},
        {'eval_per_task': 301},
        {'study_items': 20, 'anchor_counts': (3,)},
        {'allow_code_execution': True},
    ],
)
def test_a_run_gets_more(more):
    assert sorted(grown(**more)) == sorted(more)


@pytest.mark.parametrize(
    ('other', 'words'),
    [
        ({'methods': BEGUN.methods[1:]}, 'can get more of them and lose none'),
        ({'anchors': BEGUN.anchors[1:]}, 'can get more of them and lose none'),
        ({'eval_per_task': 200}, 'was begun with 300, and a run can get more items'),
        ({'diagnostics': False}, 'was begun with true'),
        ({'lora_rank': 8}, 'was begun with 4, and results of both cannot be mixed'),
        ({'seed': 1}, 'cannot be mixed'),
        ({'target_model': 'a/b'}, 'was begun with toy-target'),
        ({'max_len': 64, 'methods': BEGUN.methods[1:]}, 'max_len 64'),
    ],
)
def test_what_cannot_be_mixed_is_refused_by_name(other, words):
    with pytest.raises(ArgumentError, match=words) as error:
        grown(**other)
    assert error.value.argument in other


def test_newcomers_are_trained_by_themselves():
    change = growth.Growth(frozenset({'b'}), True, (), {})
    stored = {'anchors': ['a', 'b'], 'heldouts': ['c']}
    assert growth.generations(stored, ['a', 'b', 'd', 'c'], change) == [['a', 'c'], ['b', 'd']]
    stored['generations'] = [['a', 'c'], ['b']]
    unchanged = growth.Growth(frozenset(), False, (), {})
    assert growth.generations(stored, ['a', 'b', 'c'], unchanged) == [['a', 'c'], ['b']]
