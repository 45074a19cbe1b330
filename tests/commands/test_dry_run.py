"""A dry run says what a command line means, as flags that mean the same."""

import pathlib

import pytest

from lorajax.commands import COMMANDS, dry_run, parse
from lorajax.errors import InputError

LINES = {
    'run': ['run', '--num_shards=2', '--stages=train'],
    'train': ['train', '--model=m', '--train_file=f', '--output=o', '--lora_rank=3'],
    'evaluate': ['evaluate', '--model=m', '--tasks=gsm8k', '--allow_code_execution'],
    'doctor': ['doctor', '--model=m'],
    'merge': ['merge', '--model=m', '--adapter=a', '--output=o'],
}


@pytest.fixture(autouse=True)
def rows(tmp_path, monkeypatch):
    """The rows that `train` would read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'f').write_text('{"prompt": "p", "completion": "c"}\n')


@pytest.mark.parametrize('name', LINES)
def test_its_flags_say_the_same(tmp_path, name):
    parsed = parse.parse(LINES[name])
    lines = dry_run.describe(*parsed)
    assert lines[0] == f'# lorajax {name}' and lines[-1].startswith('#   ')
    (tmp_path / 'same.flags').write_text('\n'.join(lines))
    again = parse.parse([*LINES[name], f'--flagfile={tmp_path}/same.flags'])
    assert again == parsed
    typed = [line for line in lines if line.startswith('--')]
    assert parse.parse([name, *typed]) == parsed  # none of them is refused


def test_what_is_not_read_is_not_shown():
    lines = dry_run.describe(*parse.parse(LINES['train']))
    assert '--lora_rank=3' in lines and not any(line.startswith('--data_dir') for line in lines)
    assert not any(line.startswith('--protocol') for line in lines)
    assert COMMANDS['train'].condition('protocol') == ('task',)


def test_it_says_what_would_be_done_and_where_it_goes():
    def plan(*words):
        lines = dry_run.describe(*parse.parse(words))
        start = lines.index('# It would do this:')
        return [line.removeprefix('#   ') for line in lines[start + 1 :]]

    assert plan(*LINES['train']) == [
        'Train 1 adapter of m on 1 rows of f.', 'Begin anew.', 'It writes o.'
    ]  # fmt: skip
    pathlib.Path('o.state').mkdir()
    pathlib.Path('o.state/settings.json').write_text('{}')
    assert plan(*LINES['train'])[1] == 'Go on from o.state.'
    assert plan(*LINES['merge'])[-1] == 'It writes o.'
    first, second = plan(*LINES['evaluate'], '--adapters=a,b')
    assert first == 'Score the base and a and b on at most 300 items of each of:'
    assert second.startswith('  gsm8k, version 2, scored by numeric: train gsm8k/train')
    with pytest.raises(InputError, match='gsm8k'):
        plan('evaluate', '--model=m', '--tasks=gsmk8')
    pathlib.Path('f').write_text('{')
    with pytest.raises(InputError, match='f:1: not valid JSON'):
        plan(*LINES['train'])
