"""Outcomes of every method on the same items, and of experiments 2 and 3 on some of them."""

import json

import pytest

from lorajax.errors import InputError
from lorajax.evaluation import outcomes
from lorajax.experiment.stages import evaluate as stage


def test_every_method_answers_every_item(toy_run):
    (task,) = toy_run.heldouts
    table = outcomes.read_table(toy_run.files.outcomes(task), task)
    assert list(table) == [
        'base', 'mean', 'matched_ridge', 'placebo', 'span_oracle_tensor', 'distilled', 'repeated',
        'oracle',
    ]  # fmt: skip
    assert {len(rows) for rows in table.values()} == {toy_run.eval_per_task}


def test_experiments_2_and_3_take_the_first_items_and_reuse_the_main_table(toy_run):
    (task,) = toy_run.heldouts
    main = outcomes.read_table(toy_run.files.outcomes(task), task)
    first = list(main['base'])[: toy_run.study_items]
    scaling = outcomes.read(toy_run.files.study_outcomes('experiment2', task), task)
    labels = {(row['anchors'], row['top_k']) for row in scaling}
    assert labels == {(2, 1), (2, 'all'), (3, 1), (3, 'all')}
    transfer = outcomes.read(toy_run.files.study_outcomes('experiment3', task), task)
    assert {row['pool'] for row in transfer} == {'code', 'all'}
    for rows in (scaling, transfer):
        assert {row['item'] for row in rows} == set(first)
    copied = {row['item']: row['prediction'] for row in transfer if row['pool'] == 'all'}
    assert copied == {item: main['mean'][item]['prediction'] for item in first}
    assert not toy_run.files.cells.exists()


def test_lost_outcomes_are_made_again_the_same(copied_run):
    (task,) = copied_run.heldouts
    path = copied_run.files.outcomes(task)
    before = path.read_text()
    path.unlink()
    assert stage.evaluate(copied_run) and path.read_text() == before
    assert not stage.evaluate(copied_run)


def test_a_flipped_verdict_is_noticed(copied_run):
    (task,) = copied_run.heldouts
    path = copied_run.files.outcomes(task)
    rows = path.read_text().splitlines()
    row = json.loads(rows[0])
    row['correct'] = not row['correct']
    path.write_text('\n'.join([json.dumps(row), *rows[1:]]) + '\n')
    copied_run.files.study_outcomes('experiment3', task).unlink()
    with pytest.raises(InputError, match=str(path)):
        stage.evaluate(copied_run)
