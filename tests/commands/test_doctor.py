"""What doctor says agrees with the arithmetic and with what a run would refuse."""

import json

import jax
import pytest

from lorajax.errors import ArgumentError, InputError
from lorajax.experiment import forecast, memory, models, programs, targets
from lorajax.experiment.config import Experiment
from lorajax.models import config as config_lib
from lorajax.models import presets
from tests.commands.command_line import run

GIB = 1024**3


def test_one_model_is_measured_with_the_recipe_of_train(tmp_path, capsys):
    shape = presets.LLAMA3_2_3B
    config = {'model_type': 'llama', **config_lib.to_hf(shape)}
    (tmp_path / 'config.json').write_text(json.dumps(config))
    run('doctor', f'--model={tmp_path}')
    lines = capsys.readouterr().out.splitlines()
    assert f'model {tmp_path}: {shape.num_params / 1e6:,.1f} million parameters' in lines
    (line,) = [line for line in lines if 'estimated per device, training: ' in line]
    recipe = Experiment(
        mesh=(1, -1, 1), lora_rank=16, batch_size=8, max_len=1024, param_dtype='bfloat16',
        dtype='bfloat16', remat='full',
    )  # fmt: skip
    parts = memory.training_bytes(recipe, shape, 1)
    assert f'{parts["params"] / GIB:.2f} params' in line
    assert f'= {sum(parts.values()) / GIB:.2f} GiB' in line
    assert not any(line.startswith('source') for line in lines)


def test_a_flagfile_is_measured_with_both_models(capsys):
    run('doctor', '--flagfile=launch/toy.flags')
    lines = capsys.readouterr().out.splitlines()
    assert f'{jax.device_count()} device(s)' in lines[0]
    assert [line.split()[0] for line in lines[3:-2]] == ['source'] * 5 + ['target'] * 5
    assert lines[6] == 'source toy-source: fits'
    assert lines[7].startswith('source toy-source: estimated time: training ')
    assert 'evaluation' in lines[-3] and 'GFLOP/s, as just measured' in lines[-3]
    assert lines[-2].endswith('in common: strangers')
    assert lines[-1].startswith('advice: check what the map makes')


def test_time_is_that_of_all_devices_of_a_mesh_wherever_they_are(monkeypatch, capsys):
    monkeypatch.setattr(forecast, 'matrix_rate', lambda dtype: 1e9)
    monkeypatch.setattr(forecast, 'show', lambda seconds: f'<{seconds}>')
    times = []
    for mesh, count in (('1,1,1', 1), ('4,1,1,8', 32)):
        run('doctor', '--flagfile=launch/toy.flags', f'--mesh={mesh}')
        lines = capsys.readouterr().out.splitlines()
        line = next(x for x in lines if x.startswith('target') and 'estimated time' in x)
        times.append([float(part.split('>')[0]) for part in line.split('<')[1:]])
        assert f'with {count} x 1 GFLOP/s' in line
    assert len(times[0]) == 2
    assert times[0] == pytest.approx([32 * seconds for seconds in times[1]])


def test_shapes_of_known_models_are_built_in_and_flags_that_fit_are_named(monkeypatch, capsys):
    def resolve(name):
        raise InputError('no network here')

    monkeypatch.setattr(models, 'resolve', resolve)
    monkeypatch.setattr(memory, 'device_bytes', lambda: 40 * GIB)
    call = ['doctor', '--flagfile=launch/gpu_80gb.flags', '--mesh=1,-1,1']
    run(*call)
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith('source') and 'does not fit' in line]
    flags = line.partition('it does with ')[2].split()
    assert flags and all(flag.startswith('--') for flag in flags)
    run(*call, *flags)
    assert 'source Qwen/Qwen2.5-3B-Instruct: fits' in capsys.readouterr().out
    (line,) = [line for line in lines if line.startswith('both models fit with ')]
    run(*call, *line.removeprefix('both models fit with ').split())
    found = capsys.readouterr().out
    assert found.count(': fits') == 2 and 'both models' not in found
    monkeypatch.setattr(memory, 'device_bytes', lambda: 2 * GIB)
    run(*call)
    assert 'does not fit; take --param_dtype' in capsys.readouterr().out


def test_devices_are_named_before_anything_can_fail(capsys):
    with pytest.raises(InputError):
        run('doctor', '--source_model=nowhere/at/all')
    assert 'device(s) of kind' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('flag', 'error', 'words'),
    [
        ('--mesh=1,3,1', ArgumentError, 'does not divide'),
        ('--anchors=toy_math_kep_5', InputError, 'toy_math_keep_5'),
        ('--methods=delta_rigde', InputError, 'delta_ridge'),
        ('--source_model=nowhere/at/all', InputError, 'no such directory'),
    ],
)
def test_what_a_run_would_refuse_is_refused(flag, error, words):
    with pytest.raises(error, match=words):
        run('doctor', flag)


def test_an_accelerator_that_is_none_is_refused_by_name():
    with pytest.raises(ArgumentError, match='expected one of v5e, v6e, a100, h100'):
        run('doctor', '--flagfile=launch/toy.flags', '--compile_for=h101')


def test_the_rest_of_a_mesh_is_of_the_accelerators_asked_about(monkeypatch, capsys):
    monkeypatch.setattr(targets, 'devices', lambda name: jax.devices()[:1])
    monkeypatch.setattr(programs, 'compile_all', lambda *_: [programs.Program('training', None)])
    run('doctor', '--flagfile=launch/toy.flags', '--mesh=1,-1,1', '--compile_for=h100')
    out = capsys.readouterr().out
    assert 'mesh (data, fsdp, tensor[, adapters]): 1,1,1' in out
    assert out.count('training: does not fit') == 2 and '40% of the peak' in out
    with pytest.raises(ArgumentError, match='a product of 1'):
        run('doctor', '--flagfile=launch/toy.flags', '--mesh=8,1,1', '--compile_for=h100')
