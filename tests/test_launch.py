"""What a user reads when something is wrong: one line, a status, nothing half-written."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from lorajax import lora, models, toy
from lorajax.errors import InputError
from lorajax.experiment import pipeline
from lorajax.experiment.config import Experiment
from lorajax.sandbox import runner
from tests.tasks import small_data

ROOT = pathlib.Path(__file__).resolve().parent.parent


def launch(*args):
    """Runs the command line; these runs end before any model is loaded."""
    return subprocess.run(
        [sys.executable, '-m', 'lorajax.launch', *args],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ('flag', 'words'),
    [
        ('--lora_rnk=4', ['lora_rnk', 'lora_rank']),
        ('--batch_size=0', ['batch_size', '0', 'positive integer']),
        ('--mesh=1,1', ['--mesh=1,1', 'three integers']),
        ('--source_model=runs/nowhere', ['runs/nowhere', 'no such directory']),
        ('--workdir=setup.py', ['setup.py', 'expected a directory']),
    ],
)
def test_a_wrong_flag_ends_in_one_line(flag, words, tmp_path):
    args = [flag] if 'workdir' in flag else [flag, f'--workdir={tmp_path}/run']
    done = launch(*args)
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith('lorajax: ') and 'Traceback' not in done.stderr
    assert all(word in line for word in words), line
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('args', [('--help',), ('train', '--help'), ('help',)])
def test_help_names_commands_and_their_flags(args):
    done = launch(*args)
    assert done.returncode == 0 and not done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith('usage: lorajax COMMAND')
    assert any(line.startswith('  train      Trains one adapter') for line in lines)
    assert any(line.startswith('  --train_file: train: JSON lines') for line in lines)
    assert "  --lora_rank: rank of adapters ('4')" in lines
    # Help of one command leaves out what others read.
    assert any(line.startswith('  --mapping: ') for line in lines) == (args[0] != 'train')
    assert any(line.startswith('  translate ') for line in lines) == (args[0] != 'train')
    assert max(map(len, lines)) < 130


def test_toy_flagfile_is_the_embedded_default():
    script = (
        'import sys; from lorajax import launch\n'
        "launch._FLAGS(['x', '--flagfile=launch/toy.flags'])\n"
        'assert launch.experiment_from_flags() == launch.Experiment()\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_flagfile_parses():
    files = sorted(path.name for path in (ROOT / 'launch').glob('*.flags'))
    assert {'toy.flags', 'round4.flags'} <= set(files)
    script = (
        'import sys; from lorajax import launch\n'
        'for name in sys.argv[1:]:\n'
        "    launch._FLAGS(['x', f'--flagfile=launch/{name}'])\n"
        '    launch.experiment_from_flags()\n'
    )
    command = [sys.executable, '-c', script, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def experiment(tmp_path):
    """A valid, small experiment over the toy models and real data formats."""
    small_data.write(tmp_path / 'data')
    return Experiment(
        workdir=str(tmp_path / 'run'), data_dir=str(tmp_path / 'data'), stages=('prepare',),
        anchors=('gsm8k', 'arc_easy'), heldouts=('arc_challenge',), train_per_task=4,
        eval_per_task=4, mesh=(1, 1, 1),
    )  # fmt: skip


def check_refused(experiment, words):
    """Runs an experiment that must be refused; nothing may stay behind."""
    with pytest.raises(InputError) as error:
        pipeline.run(experiment)
    message = str(error.value)
    assert '\n' not in message
    for word in words:
        assert word in message, message
    assert not pathlib.Path(experiment.workdir).exists()


def test_top_k_is_written_into_the_names_that_leave_it_open(experiment):
    changed = dataclasses.replace(experiment, methods=('mean', 'topk_global_ridge'), top_k=2)
    assert pipeline.run(changed) == ['prepare']
    stored = json.loads(changed.files.config.read_text())
    assert stored['methods'] == ['mean', 'topk2_global_ridge']
    assert pipeline.run(changed) == []
    with pytest.raises(InputError, match='--methods=mean,topk3_global_ridge'):
        pipeline.run(dataclasses.replace(changed, top_k=3))


def test_a_run_says_at_once_whether_programs_will_be_run(experiment, caplog, monkeypatch):
    coding = dataclasses.replace(experiment, heldouts=('mbpp_test_held',))
    with caplog.at_level('WARNING', logger='absl'):
        assert pipeline.run(coding) == ['prepare']
    (line,) = [record.getMessage() for record in caplog.records if 'proxy' in record.message]
    assert line.startswith('mbpp_test_held: ') and '--allow_code_execution' in line

    def unconfined():
        raise InputError('sandbox: cannot confine programs on this machine')

    monkeypatch.setattr(runner, 'protections', unconfined)
    allowed = dataclasses.replace(coding, workdir=f'{coding.workdir}2', allow_code_execution=True)
    check_refused(allowed, ['sandbox: cannot confine'])


def test_prepare_accepts_the_valid_experiment(experiment):
    assert pipeline.run(experiment) == ['prepare']
    config = json.loads(experiment.files.config.read_text())
    assert config['anchors'] == ['gsm8k', 'arc_easy'] and len(config['data_hash']) == 64
    assert pipeline.run(experiment) == []


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'anchors': ('gsm8q',)}, ['gsm8q', 'gsm8k']),
        ({'methods': ('deltaridge',)}, ['deltaridge', 'delta_ridge']),
        ({'heldouts': ('humaneval',)}, ['humaneval', 'evaluation']),
        ({'data_dir': 'nowhere'}, ['nowhere', 'no such file']),
        ({'mesh': (3, 1, 1)}, ['--mesh=3,1,1', 'number of devices']),
        ({'target_model': 'a/b/c'}, ['a/b/c', 'no such directory']),
    ],
)
def test_bad_choices_are_refused_before_anything_is_written(experiment, change, words):
    check_refused(dataclasses.replace(experiment, **change), words)


def test_an_empty_data_file_is_refused(experiment):
    path = pathlib.Path(experiment.data_dir) / 'gsm8k' / 'train.jsonl'
    path.write_text('')
    check_refused(experiment, [str(path), 'empty'])


def test_a_row_without_its_answer_is_refused(experiment):
    path = pathlib.Path(experiment.data_dir) / 'gsm8k' / 'train.jsonl'
    rows = path.read_text().splitlines()
    rows[2] = json.dumps({'question': 'Q'})
    path.write_text('\n'.join(rows))
    check_refused(experiment, [f'{path}:3', "'answer'"])


def copy_model(tmp_path):
    """A copy of the toy's source model that a test may damage."""
    import shutil

    return pathlib.Path(shutil.copytree(toy.MODELS['toy-source'], tmp_path / 'model'))


def test_a_truncated_checkpoint_is_refused(experiment, tmp_path):
    model = copy_model(tmp_path)
    weights = model / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:-1000])
    changed = dataclasses.replace(experiment, source_model=str(model))
    check_refused(changed, [str(weights), 'truncated'])


def test_a_model_without_tokenizer_is_refused(experiment, tmp_path):
    model = copy_model(tmp_path)
    (model / 'tokenizer.json').unlink()
    check_refused(
        dataclasses.replace(experiment, source_model=str(model)), [str(model), 'tokenizer']
    )


def test_a_stage_without_its_input_says_which_stage_is_missing(experiment):
    with pytest.raises(InputError, match='stage prepare first'):
        pipeline.run(dataclasses.replace(experiment, stages=('train',)))
    pipeline.run(experiment)
    with pytest.raises(InputError, match='stage train first'):
        pipeline.run(dataclasses.replace(experiment, stages=('map',)))
    with pytest.raises(InputError, match='stage evaluate first'):
        pipeline.run(dataclasses.replace(experiment, stages=('report',)))


def test_a_second_process_is_kept_out(experiment):
    with (
        pipeline.lock(experiment),
        pytest.raises(InputError, match='another process'),
        pipeline.lock(experiment),
    ):
        raise AssertionError('entered twice')


def test_merge_on_the_command_line(tmp_path):
    """The toy's model with an adapter: written, loaded again; refused once it is there."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 64, 2)), rng.normal(size=(4, 2, 64))
    config = lora.LoraConfig(rank=2, alpha=2, targets=('q_proj',))
    lora.save_peft(tmp_path / 'adapter', config, {'layers': {'q_proj': {'a': a, 'b': b}}})
    flags = ['--model=toy-source', f'--adapter={tmp_path}/adapter', f'--output={tmp_path}/out']
    done = launch('merge', *flags)
    assert done.returncode == 0, done.stderr
    before, after = (
        models.load_model(str(path)).params['layers']['q_proj']['kernel']
        for path in (toy.MODELS['toy-source'], tmp_path / 'out')
    )
    np.testing.assert_allclose(after - before, np.einsum('lir,lro->loi', a, b), atol=1e-5)
    again = launch('merge', *flags)
    assert again.returncode == 2 and again.stderr.strip().splitlines()[-1] == (
        f'lorajax: --output={tmp_path}/out: exists already, expected a new directory'
    )
    wrong = launch('merge', '--model=toy-target', flags[1], f'--output={tmp_path}/wrong')
    assert wrong.returncode == 2 and wrong.stderr.strip().splitlines()[-1] == (
        f'lorajax: {tmp_path}/adapter/adapter_model.safetensors: has layer 3, the model has 3 '
        'layers'
    )
    assert not (tmp_path / 'wrong').exists()
