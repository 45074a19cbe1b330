"""Names of tasks in both worlds."""

import pytest

from lorajax.errors import InputError
from lorajax.experiment import tasks
from lorajax.tasks import registry
from lorajax.toy import language


def test_get_finds_real_and_toy_tasks():
    toy = next(iter(language.TASKS))
    assert tasks.get('gsm8k') is registry.TASKS['gsm8k']
    assert tasks.get_all(['gsm8k', toy]) == (registry.TASKS['gsm8k'], language.TASKS[toy])


def test_an_unknown_task_is_named_with_the_closest_of_both_worlds():
    for name, closest in (('gsm8q', 'gsm8k'), ('toy_math_keep_33', 'toy_math_keep_3')):
        with pytest.raises(InputError, match=f"unknown task '{name}': closest is '{closest}'"):
            tasks.get(name)


def test_every_task_is_beside_the_heldouts_of_its_own_world():
    real = tasks.heldouts_beside(tasks.get('mbpp'))
    assert tuple(task.name for task in real) == registry.HELDOUTS
    toy = tasks.heldouts_beside(tasks.get('toy_code_keep_5'))
    assert {task.name for task in toy} == set(language.HELDOUTS)


def test_task_files_are_tasks_like_others_and_take_no_name_of_theirs(tmp_path):
    (tmp_path / 'mine.json').write_text('{"data_files": "rows.jsonl"}')
    files = (str(tmp_path),)
    assert tasks.get('mine', files).source.startswith(f'{tmp_path}/mine.json')
    assert tasks.get('gsm8k', files) is registry.TASKS['gsm8k']
    own = tasks.heldouts_beside(tasks.get('mine', files), files)
    assert [task.name for task in own] == ['mine']
    with pytest.raises(InputError, match="unknown task 'mine'"):
        tasks.get('mine')
    (tmp_path / 'gsm8k.json').write_text('{"data_files": "rows.jsonl"}')
    with pytest.raises(InputError, match="'gsm8k' is a built-in task"):
        tasks.get('mine', files)


def test_story_tasks_keep_to_themselves():
    assert tasks.get('story_upper').scorer == 'style'
    assert tasks.heldouts_beside(tasks.get('story_upper')) == ()
