"""The table of tasks."""

import pytest

from lorajax.errors import InputError
from lorajax.tasks import registry, scoring
from lorajax.tasks.data import DataSource
from lorajax.toy import language
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


def test_get_finds_real_and_toy_tasks():
    assert registry.get('gsm8k').name == 'gsm8k'
    toy = next(iter(language.TASKS))
    assert registry.get(toy) is language.TASKS[toy]


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
        assert example.from_json(example.to_json()) == example
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
