"""A dry run says what a command line means, as flags that mean the same."""

import pytest

from lorajax.commands import COMMANDS, dry_run, parse

LINES = {
    'run': ['run', '--num_shards=2', '--stages=train'],
    'train': ['train', '--model=m', '--train_file=f', '--output=o', '--lora_rank=3'],
    'evaluate': ['evaluate', '--model=m', '--tasks=gsm8k', '--allow_code_execution'],
    'doctor': ['doctor', '--model=m'],
    'merge': ['merge', '--model=m', '--adapter=a', '--output=o'],
}


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
