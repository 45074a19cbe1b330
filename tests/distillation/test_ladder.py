"""Adapters climb as far as answers carry them, and no farther."""

import jax
import numpy as np
import pytest

from lorajax.distillation import ladder
from lorajax.distillation.reweight import ReweightConfig
from lorajax.errors import ArgumentError, InputError
from lorajax.training import TrainConfig
from tests.distillation.toy_teacher import known_rows, load, random_adapter

LIMITS = ladder.Limits(batch_size=8, max_len=32, max_new_tokens=8)
SHORT = ReweightConfig(steps=12, more_steps=3, penalty=0.0)


@pytest.fixture(scope='module')
def models():
    return {side: load(side) for side in ('source', 'target')}


@pytest.fixture(scope='module')
def prompts():
    return [row.prompt for row in known_rows(8)]


def harmful(target, seed):
    """A random adapter that spoils the answers."""
    return random_adapter(target, seed, rank=2, targets=('v_proj', 'up_proj'), size=6.0)


def start_and_one_more(target):
    """Anchors: the starts, which do harm and can be undone, and another random adapter."""
    return {f'anchor{i}': harmful(target, i) for i in range(3)}


def climb(models, prompts, config=SHORT, names=('one', 'two'), **options):
    """Climbs with small random adapters; returns the start and what was reached."""
    source, target = models['source'][0], models['target'][0]
    start = {name: harmful(target, i) for i, name in enumerate(names)}
    reached = ladder.climb(
        lambda: models['source'],
        lambda: models['target'],
        ladder.Anchors({}, {f'anchor{i}': harmful(target, 10 + i) for i in range(3)}),
        {name: random_adapter(source, i, size=0.1) for i, name in enumerate(names)},
        start,
        prompts,
        LIMITS,
        config=config,
        **options,
    )
    return start, reached


def test_answers_lift_adapters_and_kept_out_ones_say_so(models, prompts):
    start, reached = climb(models, prompts)
    for name, one in reached.items():
        assert one.rung == ladder.REWEIGHTED and one.kept_out == 2
        assert list(one.losses) == [ladder.NONE, ladder.MAP, ladder.REWEIGHTED]
        assert one.losses[ladder.REWEIGHTED] < one.losses[ladder.MAP]
        assert 0 < one.floor < 0.1
        rank = start[name]['layers']['v_proj']['a'].shape[-1]  # that of the anchors, too
        assert one.adapter['layers']['v_proj']['a'].shape[-1] == SHORT.widening * rank
        assert one.learned == 8 and not one.notes and not one.is_backed


def test_a_rung_that_makes_it_worse_is_not_taken(models, prompts, monkeypatch):
    worse = {name: harmful(models['target'][0], 99) for name in ('one', 'two')}
    monkeypatch.setattr(ladder.Reweighting, 'go_on', lambda *args: worse)
    start, reached = climb(models, prompts)
    for name, one in reached.items():
        assert one.rung == ladder.MAP and 'not taken' in one.notes[0]
        assert one.losses[ladder.REWEIGHTED] > one.losses[ladder.MAP]
        jax.tree.map(np.testing.assert_array_equal, one.adapter, start[name])


def test_a_training_goes_on_from_there(models, prompts, monkeypatch):
    monkeypatch.setattr(ladder, 'LEAST_SEEN', 36)  # six times six answers
    recipe = TrainConfig(num_epochs=1, batch_size=8, learning_rate=5e-3, rank=4, alpha=8.0)
    _, reached = climb(models, prompts, training=recipe)
    one = reached['one']
    assert one.rung == ladder.DISTILLED
    assert one.losses[ladder.DISTILLED] < one.losses[ladder.REWEIGHTED]
    assert one.adapter['layers']['v_proj']['a'].shape[-1] == 2 * SHORT.widening


def test_a_training_alone_keeps_the_rank_of_each_start(models, prompts, monkeypatch):
    monkeypatch.setattr(ladder, 'LEAST_SEEN', 12)
    source, target = models['source'][0], models['target'][0]
    start = {str(rank): random_adapter(target, rank, rank=rank, size=0.1) for rank in (2, 3)}
    reached = ladder.climb(
        lambda: models['source'], lambda: models['target'], ladder.Anchors({}, {}),
        {name: random_adapter(source, 0, size=0.1) for name in start}, start, prompts, LIMITS,
        training=TrainConfig(num_epochs=1, batch_size=8, learning_rate=1e-3), with_cores=False,
    )  # fmt: skip
    for name, one in reached.items():
        assert ladder.REWEIGHTED not in one.losses and ladder.DISTILLED in one.losses
        assert one.adapter['layers']['q_proj']['a'].shape[-1] == int(name)


def test_labels_need_no_source_and_no_prompts(models):
    _, chat = models['target']
    labelled = [chat.encode(row) for row in known_rows(8)]
    models = {**models, 'source': None}

    def labels(_):
        return labelled

    target = models['target'][0]
    start = {name: harmful(target, i) for i, name in enumerate(('one', 'two'), 1)}
    anchors = start_and_one_more(target)

    def no_source():
        raise AssertionError('the source was loaded')

    one = ladder.climb(
        no_source, lambda: models['target'], ladder.Anchors({}, anchors), {}, start, (), LIMITS,
        config=SHORT, examples=labels,
    )['one']  # fmt: skip
    assert one.rung == ladder.FEW_SHOT and one.floor is None and one.is_backed
    assert one.losses[ladder.FEW_SHOT] < one.losses[ladder.MAP]


def test_few_answers_are_all_learned_and_that_is_said(models, prompts):
    _, reached = climb(models, prompts[:7])
    for one in reached.values():
        assert one.rung == ladder.REWEIGHTED and one.kept_out == 0 and not one.losses
        assert one.notes == ('too few answers to keep some out: reweighted was not checked',)


def test_answers_on_which_pairs_disagree_leave_the_translation(models, prompts):
    source, target = models['source'][0], models['target'][0]
    # Adapters of nothing in common: the target never says what the source does.
    anchors = ladder.Anchors(
        {f'a{i}': random_adapter(source, i, size=0.1) for i in range(2)},
        {f'a{i}': harmful(target, 10 + i) for i in range(2)},
    )
    start = {'one': harmful(target, 0)}
    one = ladder.climb(
        lambda: models['source'], lambda: models['target'], anchors,
        {'one': random_adapter(source, 0, size=0.1)}, start, prompts, LIMITS, config=SHORT,
    )['one']  # fmt: skip
    assert one.rung == ladder.MAP and 'pairs of adapters disagree' in one.notes[0]
    jax.tree.map(np.testing.assert_array_equal, one.adapter, start['one'])


def test_what_cannot_be_learned_is_said(models, prompts, monkeypatch):
    tight = LIMITS._replace(max_len=9)
    monkeypatch.setattr('tests.distillation.test_ladder.LIMITS', tight)
    with pytest.raises(ArgumentError, match='max_len 9: no answer fits with its prompt'):
        climb(models, prompts)
    monkeypatch.setattr('tests.distillation.test_ladder.LIMITS', tight._replace(max_new_tokens=1))
    with pytest.raises(InputError, match='one: the source model with its adapter finished none of'):
        climb(models, prompts)
