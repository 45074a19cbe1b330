"""Adapters of a model on tasks: printed with intervals, stored with their sum."""

import json

import pytest

from lorajax.errors import ArgumentError, InputError
from lorajax.evaluation import outcomes
from tests.commands import toy_adapters
from tests.commands.command_line import run

TASKS = ('toy_code_keep_5', 'toy_math_keep_7')
SMALL = ['--eval_per_task=5', '--eval_batch_size=4', '--max_len=32', '--max_new_tokens=0',
         '--dtype=float32']  # fmt: skip


def test_every_adapter_and_the_base_answer_every_item(tmp_path, capsys):
    paths = [tmp_path / 'x', tmp_path / 'y']
    for seed, path in enumerate(paths):
        toy_adapters.write(path, 'target', seed, 'toy-target')
    run('evaluate', '--model=toy-target', f'--tasks={",".join(TASKS)}',
        f'--adapters={paths[0]},{paths[1]}', f'--output={tmp_path}/rows.jsonl', *SMALL)  # fmt: skip
    lines = [line.split('  ') for line in capsys.readouterr().out.strip().splitlines()]
    names = ['base', *map(str, paths)]
    assert [tuple(line[:2]) for line in lines] == [(t, name) for t in TASKS for name in names]
    rows = (tmp_path / 'rows.jsonl').read_text().splitlines()
    assert len(rows) == 2 * 3 * 5 and (tmp_path / 'rows.jsonl.sha256').exists()
    (tmp_path / 'first.jsonl').write_text('\n'.join(rows[:15]))
    stored = outcomes.read(tmp_path / 'first.jsonl', TASKS[0])
    base = [row for row in stored if row['method'] == 'base']
    correct = sum(row['correct'] for row in base)
    assert lines[0][2].startswith(f'{correct}/5 = {correct / 5:.3f} [')
    mean = sum(row['nll'] for row in base) / 5
    assert lines[0][3].startswith(f'{mean:.3f} nats per answer token [')
    assert lines[1][4].startswith('against base: score ') and lines[1][5].startswith('loss ')


def test_the_items_are_those_that_a_run_draws(tmp_path):
    from lorajax.experiment import tasks
    from lorajax.tasks import data

    run('evaluate', '--model=toy-target', f'--tasks={TASKS[0]}', f'--output={tmp_path}/rows.jsonl',
        '--seed=3', *SMALL)  # fmt: skip
    drawn = data.draw((), [tasks.get(TASKS[0])], data.DataSource(None), 10, 5, 3)
    rows = outcomes.read(tmp_path / 'rows.jsonl', TASKS[0])
    assert [row['item'] for row in rows] == [example.item for example in drawn[TASKS[0]].eval]


def test_bad_input_is_refused_before_anything_is_loaded(tmp_path):
    (tmp_path / 'there').write_text('')
    call = ['evaluate', '--model=nowhere/at/all']
    with pytest.raises(ArgumentError, match='expected a new file'):
        run(*call, f'--tasks={TASKS[0]}', f'--output={tmp_path}/there')
    with pytest.raises(InputError, match="closest is 'gsm8k'"):
        run(*call, '--tasks=gsmk8')
    with pytest.raises(ArgumentError, match='tasks: is missing'):
        run(*call)


def test_a_task_file_is_evaluated_without_training_rows(tmp_path, capsys):
    rows = [{'question': f'q {i}', 'choices': ['a', 'b'], 'answer': i % 2} for i in range(4)]
    (tmp_path / 'rows.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    own = tmp_path / 'own.json'
    own.write_text('{"data_files": {"test": "rows.jsonl"}, "output_type": "multiple_choice"}')
    call = ['evaluate', '--model=toy-target', f'--tasks={own}', *SMALL]
    with pytest.raises(ArgumentError, match='task own has no training rows to take a length from'):
        run(*call)
    run(*call, '--max_new_tokens=8')
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith('own  base  ') and '/4 = ' in line and 'likeliest_text ' in line
