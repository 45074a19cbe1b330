"""The table of tasks."""

import dataclasses

import pytest

from lorajax.errors import InputError
from lorajax.tasks import registry, scoring
from lorajax.tasks.data import DataSource
from tests.tasks import small_data


def test_sixteen_anchors_and_six_heldouts():
    assert len(registry.ANCHORS) == 16 and len(registry.HELDOUTS) == 6
    assert set(registry.ANCHORS) | set(registry.HELDOUTS) == set(registry.TASKS)
    assert registry.HELDOUTS == (
        'gsm_hard', 'gsm8k_test_500', 'mbpp_test_held', 'mbpp_plus', 'arc_challenge',
        'openbookqa_test',
    )  # fmt: skip
    domains = [registry.TASKS[name].domain for name in registry.HELDOUTS]
    assert domains == ['math', 'math', 'code', 'code', 'science', 'science']
    assert {task.scorer for task in registry.TASKS.values()} < set(scoring.SCORERS)


def test_get_finds_tasks_of_the_table_or_of_what_it_is_given():
    assert registry.get('gsm8k').name == 'gsm8k'
    other = dataclasses.replace(registry.get('gsm8k'), name='other')
    assert registry.get('other', {'other': other}) is other
    with pytest.raises(InputError, match="unknown task 'other'"):
        registry.get('other')


def test_an_unknown_task_is_named_with_its_closest_match():
    with pytest.raises(InputError, match=r"'gsm8q': closest is 'gsm8k'.*registry\.py") as error:
        registry.get('gsm8q')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('protocol', ['direct', 'cot'])
@pytest.mark.parametrize('name', registry.TASKS)
def test_every_task_reads_rows_in_the_hubs_schema(name, protocol, tmp_path_factory):
    directory = tmp_path_factory.getbasetemp() / 'small'
    if not directory.exists():
        small_data.write(directory)
    task = registry.get(name)
    pools = task.pools(DataSource(str(directory)), protocol)
    assert len(pools.train) >= 8 and (len(pools.eval) >= 4) is (name != 'humaneval')
    examples = {example.item: example for example in pools.train + pools.eval}
    for example in examples.values():
        assert example.question and example.problem_ids and example.answer
        assert example.from_json('x', example.to_json()) == example
        assert scoring.score(task.scorer, example, example.answer).correct
        assert not scoring.score(task.scorer, example, '').correct


def test_an_unknown_protocol(tmp_path):
    with pytest.raises(InputError, match="protocol 'few': expected one of direct, cot"):
        registry.get('gsm8k').pools(DataSource(str(tmp_path)), 'few')


def test_splits_of_mmlu_are_pooled_and_cut_the_same_way_in_every_run(tmp_path):
    small_data.write(tmp_path)
    pools = registry.get('mmlu_astronomy').pools(DataSource(str(tmp_path)), 'direct')
    again = registry.get('mmlu_astronomy').pools(DataSource(str(tmp_path)), 'cot')
    assert pools == again and len(pools.train) + len(pools.eval) == 35
    train = {example.problem_ids for example in pools.train}
    assert train.isdisjoint(example.problem_ids for example in pools.eval)
