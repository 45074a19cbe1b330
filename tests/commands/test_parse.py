"""Command lines become values, or one line that says what is wrong with them."""

import itertools
import pathlib

import pytest

from lorajax.commands import COMMANDS, parse
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment.config import RECIPE, Experiment

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRAIN = ['train', '--model=m', '--output=o', '--task=t']


def refused(*arguments):
    """The message of a command line that must be refused."""
    with pytest.raises(InputError) as error:
        parse.parse(arguments)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_a_flagfile_without_a_command_is_a_run():
    parsed = parse.parse(['--flagfile=launch/toy.flags'])
    assert parsed.command.name == 'run' and parsed.experiment == Experiment()


def test_every_flagfile_is_read_by_its_command():
    names = {path.name for path in (ROOT / 'launch').glob('*.flags')}
    assert {'toy.flags', 'round4.flags', 'lora.flags', 'pairs.flags'} <= names
    for name in names:
        parse.parse(['run', f'--flagfile={ROOT}/launch/{name}'])
    pairs = parse.parse(['map', f'--flagfile={ROOT}/launch/pairs.flags', '--pairs=p', '--output=o'])
    assert pairs.flags.method == 'matched_scaled'


def test_the_flagfile_of_one_adapter_is_the_recipe_that_train_has_anyway():
    plain = parse.parse(TRAIN)
    assert parse.parse([*TRAIN, f'--flagfile={ROOT}/launch/lora.flags']) == plain
    settings = plain.experiment
    assert (settings.max_len, settings.lora_rank, settings.dtype) == (1024, 16, 'bfloat16')


@pytest.mark.parametrize('name', [n for n in COMMANDS if n not in ('run', 'doctor', 'report')])
def test_only_what_works_on_a_run_inherits_the_toys_numbers(name):
    command = COMMANDS[name]
    toy = Experiment()
    for setting in command.settings.keys() & RECIPE.keys():
        assert command.defaults({}).get(setting, getattr(toy, setting)) == RECIPE[setting]


def test_doctor_has_the_recipe_where_it_looks_at_one_model():
    assert parse.parse(['doctor']).experiment == Experiment()
    with_model = parse.parse(['doctor', '--model=m', '--batch_size=3']).experiment
    assert with_model.max_len == RECIPE['max_len'] and with_model.batch_size == 3


def test_a_flag_that_is_not_read_is_refused_where_it_is_typed_and_passed_over_in_a_file(tmp_path):
    line = refused(*TRAIN, '--top_k=3')
    assert line == '--top_k: train does not read it; see lorajax help train'
    assert refused(*TRAIN, '--noforce').startswith('--noforce: train does not read it')
    (tmp_path / 'a.flags').write_text('# words\n--top_k=3\n--nodiagnostics\n--lora_rank=5\n')
    parsed = parse.parse([*TRAIN, f'--flagfile={tmp_path}/a.flags'])
    assert parsed.experiment.lora_rank == 5 and parsed.experiment.top_k == Experiment().top_k
    (tmp_path / 'a.flags').write_text('--top_q=3\n')
    assert refused(*TRAIN, f'--flagfile={tmp_path}/a.flags') == (
        f'--flagfile={tmp_path}/a.flags: --top_q: unknown flag; did you mean --top_k?'
    )
    (tmp_path / 'a.flags').write_text('--top_k=0\n')
    assert refused(*TRAIN, f'--flagfile={tmp_path}/a.flags').startswith('top_k 0: expected')


def test_what_is_typed_wins_over_files_wherever_it_stands(tmp_path):
    (tmp_path / 'a.flags').write_text('--seed=2\n')
    (tmp_path / 'b.flags').write_text(f'--flagfile={tmp_path}/a.flags\n--top_k=5\n')
    file = f'--flagfile={tmp_path}/b.flags'
    assert parse.parse([file]).experiment.seed == 2
    assert parse.parse(['--seed=1', file]).experiment.seed == 1
    assert parse.parse([file, '--seed', '1']).experiment.seed == 1
    assert parse.parse(['--flagfile', f'{tmp_path}/b.flags']).experiment.top_k == 5
    (tmp_path / 'c.flags').write_text('--seed=3\n')
    assert parse.parse([file, f'--flagfile={tmp_path}/c.flags']).experiment.seed == 3


def test_an_input_that_is_typed_twice_is_refused_and_a_list_grows():
    assert refused('generate', '--model=a', '--model=b', '--prompt=p') == (
        'model b: is given twice, a before'
    )
    assert parse.parse(['generate', '--model=a', '--model=a', '--prompt=p']).flags.model == 'a'
    both = parse.parse(['evaluate', '--model=m', '--tasks=gsm8k', '--tasks=mbpp'])
    assert both.flags.tasks == ('gsm8k', 'mbpp')
    assert parse.parse(['--seed=1', '--seed=2']).experiment.seed == 2  # as scripts add them


def test_a_flag_that_is_read_beside_another_alone_is_refused_without_it():
    call = ['train', '--model=m', '--output=o', '--train_file=f']
    assert refused(*call, '--data_dir=d') == '--data_dir: train reads it with --task alone'
    assert parse.parse([*TRAIN, '--data_dir=d']).experiment.data_dir == 'd'
    call = ['translate', '--mapping=m', '--adapter=a', '--output=o']
    line = '--learning_rate: translate reads it with --distill alone'
    assert refused(*call, '--learning_rate=3') == line
    assert '--output_rank: translate does not read it' in refused(*call, '--output_rank=8')
    prompted = [*call, '--prompts=p', '--distill', '--learning_rate=3', '--max_len=9']
    assert parse.parse(prompted).experiment.learning_rate == 3
    assert parse.parse([*call, '--flagfile=launch/toy.flags']).experiment.lora_rank == 4


def test_task_files_stand_where_names_of_tasks_do(tmp_path):
    for name in ('one', 'two'):
        (tmp_path / f'{name}.json').write_text('{"data_files": "rows.jsonl"}')
    one, two = f'{tmp_path}/one.json', f'{tmp_path}/two.json'
    parsed = parse.parse(['evaluate', '--model=m', f'--tasks=gsm8k,{one},{two}'])
    assert parsed.flags.tasks == ('gsm8k', 'one', 'two')
    assert parsed.experiment.task_files == (one, two)
    parsed = parse.parse([f'--anchors={one},mbpp', '--heldouts=two', f'--task_files={two}'])
    assert parsed.experiment.anchors == ('one', 'mbpp')
    assert parsed.experiment.task_files == (two, one)
    assert parse.parse(['train', '--model=m', '--output=o', f'--task={one}']).flags.task == 'one'
    assert 'nowhere.json: no such file' in refused('--anchors=nowhere.json')


def test_a_dry_run_is_a_line_without_it():
    assert parse.take_dry_run(['run', '--dry_run', '--seed=1']) == (True, ['run', '--seed=1'])
    assert parse.take_dry_run(['run']) == (False, ['run'])
    assert parse.take_dry_run(['run', '--nodry_run']) == (False, ['run'])
    with pytest.raises(InputError, match='of what'):
        parse.take_dry_run(['--dry_run'])


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        (['trian'], 'trian: expected one of'),
        ([*TRAIN, '--lora_rnk=4'], '--lora_rnk: unknown flag; did you mean --lora_rank?'),
        ([*TRAIN, 'more'], 'more: expected a flag, as --name=value'),
        ([*TRAIN, '--lora_rank'], 'Missing value for flag --lora_rank'),
        ([*TRAIN, '--flagfile=nowhere'], 'flagfile nowhere: no such file'),
        ([*TRAIN, '--flagfile=/dev/null'], 'flagfile /dev/null: no such file'),
        (['generate', '--model=m'], "prompt: is missing, expected the user's message"),
        (['generate', '--model=m', '--prompt='], 'prompt: is missing'),
        (['--mesh=1,x'], 'mesh 1,x: expected integers of at least -1'),
        (['--anchors='], 'anchors: is empty'),
        (['--stages=train,evalute'], 'stages evalute: expected some of prepare,'),
    ],
)
def test_what_is_wrong_is_named(arguments, line):
    assert refused(*arguments).startswith(line)


def test_a_flagfile_that_is_no_text_is_refused(tmp_path):
    (tmp_path / 'a.flags').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ArgumentError, match='is no text'):
        parse.parse([f'--flagfile={tmp_path}/a.flags'])
    (tmp_path / 'a.flags').write_text('seed 4\n')
    assert 'seed 4: expected a flag' in refused(f'--flagfile={tmp_path}/a.flags')


def test_flags_of_one_name_are_of_one_kind():
    """A flagfile is read by several commands, so a flag's form must not depend on the command."""
    for left, right in itertools.combinations(COMMANDS.values(), 2):
        for name in left.options.keys() & right.options.keys():
            forms = {(c.options[name].kind, c.options[name].is_list) for c in (left, right)}
            assert len(forms) == 1, (name, left.name, right.name)
