"""The whole experiment through its command line, on real data formats and tiny models."""

import dataclasses
import json
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lorajax.errors import ArgumentError, InputError
from lorajax.experiment import pipeline
from lorajax.experiment.config import Experiment
from lorajax.experiment.workdir import Workdir
from tests import tiny_models
from tests.commands.command_line import run
from tests.tasks import small_data

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = [
    '--flagfile=launch/round4.flags', '--anchors=gsm8k,arc_easy,mbpp',
    '--heldouts=gsm8k_test_500,arc_challenge,mbpp_test_held', '--train_per_task=12',
    '--eval_per_task=6', '--num_epochs=2', '--batch_size=4', '--eval_batch_size=4',
    '--max_len=192', '--max_new_tokens=8', '--lora_rank=2', '--lora_alpha=4', '--methods='
    'mean,global_ridge,delta_ridge', '--param_dtype=float32', '--dtype=float32',
    '--learning_rate=1e-2', '--checkpoint_every=1', '--adapters_per_step=3',
    '--anchor_counts=2,3', '--anchor_draws=2', '--top_k_grid=1', '--study_items=4',
    '--scaling_methods=global_ridge', '--transfer_methods=mean,topk2_global_ridge',
]  # fmt: skip


def launch(*args, env=None):
    """Runs `python -m lorajax.launch` in a process of its own, which takes seconds to start."""
    done = subprocess.run(
        [sys.executable, '-m', 'lorajax.launch', *args],
        capture_output=True, text=True, cwd=ROOT, check=False, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    """Data of the repository's own making and two models for it."""
    root = tmp_path_factory.mktemp('inputs')
    small_data.write(root / 'data')
    texts = tiny_models.texts_below(root / 'data')
    tiny_models.write(root / 'qwen', 'qwen2', texts)
    tiny_models.write(root / 'llama', 'llama', texts, num_hidden_layers=3, hidden_size=36)
    return root


def flags_for(inputs, workdir):
    return [
        *SMALL, f'--source_model={inputs}/qwen', f'--target_model={inputs}/llama',
        f'--data_dir={inputs}/data', f'--workdir={workdir}',
    ]  # fmt: skip


@pytest.fixture(scope='module')
def finished(inputs, tmp_path_factory):
    """The work directory of an undisturbed run."""
    workdir = tmp_path_factory.mktemp('run') / 'run'
    launch(*flags_for(inputs, workdir))
    return workdir


def test_a_run_leaves_every_file(finished):
    expected = ['config.json', 'results.json', 'metrics.jsonl', 'report/ROUND4_REPORT.md']
    expected += ['report/main.png', 'mappings/delta_ridge/diagnostics.json']
    for task in ('gsm8k_test_500', 'arc_challenge', 'mbpp_test_held'):
        expected += [f'outcomes/{task}.jsonl', f'adapters/target/{task}/adapter_config.json']
        expected.append(f'predicted/delta_ridge/{task}/adapter_model.safetensors')
    for name in expected:
        assert (finished / name).is_file(), name
    assert not list(finished.rglob('.partial-*'))
    results = json.loads((finished / 'results.json').read_text())
    rows = {row['task']: row for row in results['experiment1']['rows']}
    assert set(rows) == {'gsm8k_test_500', 'arc_challenge', 'mbpp_test_held'}
    for row in rows.values():
        assert set(row['correct']) == {'base', 'mean', 'global_ridge', 'delta_ridge', 'oracle'}
        assert row['n'] == 6
    outcomes = [
        json.loads(line)
        for line in (finished / 'outcomes/arc_challenge.jsonl').read_text().splitlines()
    ]
    metrics = [json.loads(line) for line in (finished / 'metrics.jsonl').read_text().splitlines()]
    stages = [row['stage'] for row in metrics if row['event'] == 'stage']
    assert stages == ['prepare', 'train', 'map', 'evaluate', 'report']
    assert '| Stage |' in (finished / 'report/ROUND4_REPORT.md').read_text()
    nll = {m: np.mean([r['nll'] for r in outcomes if r['method'] == m]) for m in ('base', 'oracle')}
    assert nll['oracle'] < nll['base'] - 0.1  # training really changed the model


def test_experiments_2_and_3_reuse_the_adapters(finished):
    results = json.loads((finished / 'results.json').read_text())
    cells = {(c['anchors'], c['top_k']): c for c in results['experiment2']['cells']}
    assert set(cells) == {(2, 1), (2, 'all'), (3, 1), (3, 'all')}
    assert cells[2, 1]['draws'] == [0, 1]
    assert cells[2, 1]['n'] == 3 * 2 * 4  # held-outs x draws x items
    pools = {(c['method'], c['pool']) for c in results['experiment3']['cells']}
    methods = ('mean', 'topk2_global_ridge')
    assert pools == {(m, p) for m in methods for p in ('math', 'code', 'science', 'all')}
    picked = results['experiment3']['selected']['topk2_global_ridge']
    assert picked['math']['arc_challenge'] == ['gsm8k']
    assert len(picked['all']['arc_challenge']) == 2
    main = [
        json.loads(line)
        for line in (finished / 'outcomes/arc_challenge.jsonl').read_text().splitlines()
    ]
    again = [
        json.loads(line)
        for line in (finished / 'outcomes/experiment2/arc_challenge.jsonl').read_text().splitlines()
    ]
    copied = [r['prediction'] for r in again if (r['anchors'], r['top_k']) == (3, 'all')]
    assert copied == [r['prediction'] for r in main if r['method'] == 'global_ridge'][:4]
    report = (finished / 'report/ROUND4_REPORT.md').read_text()
    assert 'Not run.' not in report
    assert (finished / 'report/transfer.png').is_file() or not results['experiment1']['usable']


def test_a_second_run_does_nothing_and_says_so(inputs, finished, caplog):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob('*') if p.is_file()}
    with caplog.at_level(logging.INFO, logger='absl'):
        run(*flags_for(inputs, finished))
    assert f'{finished}: everything is done already' in caplog.messages
    after = {p: p.stat().st_mtime_ns for p in finished.rglob('*') if p.is_file()}
    assert {p: t for p, t in after.items() if p.name != '.lock'} == {
        p: t for p, t in before.items() if p.name != '.lock'
    }


def test_other_flags_are_refused_for_a_begun_run(inputs, finished):
    with pytest.raises(ArgumentError, match='lora_rank 3: '):
        run(*flags_for(inputs, finished), '--lora_rank=3')


def test_lost_results_are_rebuilt_by_the_same_command(inputs, finished):
    results = finished / 'results.json'
    before = results.read_text()
    results.unlink()
    run(*flags_for(inputs, finished))
    assert results.read_text() == before


def test_a_run_killed_in_training_ends_with_the_same_results(inputs, finished, tmp_path):
    """It goes on where the source's adapters are trained and nothing else is."""
    workdir = tmp_path / 'killed'
    shutil.copytree(finished, workdir)
    shutil.rmtree(workdir / 'adapters/target')
    for name in ('mappings', 'predicted', 'outcomes', 'report'):
        shutil.rmtree(workdir / name)
    for name in ('results.json', 'metrics.jsonl'):
        (workdir / name).unlink()
    command = [sys.executable, '-m', 'lorajax.launch', *flags_for(inputs, workdir)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 240
    while not any((workdir / 'checkpoints/target').glob('*/[0-9]*')):
        assert process.poll() is None, 'the run ended before it could be killed'
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list((workdir / 'adapters').glob('target/*')), 'killed too late'
    run(*flags_for(inputs, workdir))
    ours, theirs = (json.loads((w / 'results.json').read_text()) for w in (workdir, finished))
    assert ours == theirs
    paths = list((finished / 'adapters/target').rglob('*.safetensors'))
    assert len(paths) == 6
    for path in paths:
        same = workdir / path.relative_to(finished)
        assert same.read_bytes() == path.read_bytes(), path


@pytest.mark.parity
@pytest.mark.parametrize('side', ['source', 'target'])
def test_a_trained_adapter_loads_in_peft_with_the_same_logits(inputs, finished, side):
    torch = pytest.importorskip('torch')
    peft = pytest.importorskip('peft')
    import transformers

    from lorajax import lora, models

    base = inputs / ('qwen' if side == 'source' else 'llama')
    directory = finished / 'adapters' / side / 'gsm8k'
    torch_base = transformers.AutoModelForCausalLM.from_pretrained(base)
    wrapped = peft.PeftModel.from_pretrained(torch_base, directory).eval()
    model = models.load_model(str(base))
    tokens = np.random.default_rng(0).integers(5, 300, (3, 24)).astype(np.int32)
    with torch.no_grad():
        expected = wrapped(torch.tensor(tokens.astype(np.int64))).logits.numpy()
    config, adapter = lora.load_peft(directory)
    actual = np.asarray(model.logits(tokens, adapter=adapter))
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()
    assert np.abs(actual - np.asarray(model.logits(tokens))).max() > 1e-3
    assert config.base_model == str(base)


def test_the_report_is_rebuilt_without_models(inputs, finished):
    report = finished / 'report/ROUND4_REPORT.md'
    results = finished / 'results.json'
    before = report.read_text(), results.read_text()
    report.unlink()
    results.unlink()
    run('report', f'--workdir={finished}')
    assert (report.read_text(), results.read_text()) == before


def test_the_toy_runs_on_eight_devices(tmp_path):
    """Batches of every stage are odd; the mesh must not care."""
    environment = {
        **os.environ,
        'XLA_FLAGS': f'--xla_force_host_platform_device_count=8 {os.environ["XLA_FLAGS"]}',
    }
    launch(
        '--flagfile=launch/toy.flags', f'--workdir={tmp_path}/run', '--mesh=2,4,1',
        '--anchors=toy_math_keep_5,toy_code_keep_1', '--heldouts=toy_code_keep_5',
        '--methods=mean,matched_ridge,distilled', '--train_per_task=12', '--num_epochs=1',
        '--batch_size=6', '--eval_per_task=7', '--eval_batch_size=5', '--study_items=3',
        '--anchor_counts=2', '--top_k_grid=1', '--experiments=1,2', '--nodiagnostics',
        '--max_new_tokens=6', '--adapters_per_step=3', env=environment,
    )  # fmt: skip
    rows = (tmp_path / 'run/outcomes/toy_code_keep_5.jsonl').read_text().splitlines()
    assert len(rows) == 7 * len(('base', 'mean', 'matched_ridge', 'distilled', 'oracle'))
    assert (tmp_path / 'run/report/ROUND4_REPORT.md').is_file()


def test_a_stage_without_its_input_says_which_stage_is_missing(experiment):
    with pytest.raises(InputError, match='stage prepare first'):
        pipeline.run(dataclasses.replace(experiment, stages=('train',)))
    assert not experiment.files.root.exists()
    pipeline.run(experiment)
    with pytest.raises(InputError, match='stage train first'):
        pipeline.run(dataclasses.replace(experiment, stages=('map',)))
    with pytest.raises(InputError, match='stage evaluate first'):
        pipeline.run(dataclasses.replace(experiment, stages=('report',)))


def test_a_second_process_is_kept_out(experiment):
    with (
        pipeline.lock(experiment.files),
        pytest.raises(ArgumentError, match='another process'),
        pipeline.lock(experiment.files),
    ):
        raise AssertionError('entered twice')


def test_the_refused_process_takes_nothing_from_the_holder(experiment):
    with pipeline.lock(experiment.files):
        (experiment.files.root / 'work').write_text('half done')
        with pytest.raises(ArgumentError), pipeline.lock(experiment.files):
            raise AssertionError('entered twice')
        assert (experiment.files.root / 'work').read_text() == 'half done'
    assert not experiment.files.root.exists()  # new, and without a config: removed by its maker


def test_of_many_that_start_at_once_one_works_and_loses_nothing(tmp_path):
    """Processes that race for directories; each that enters must find its own file again."""
    script = """
import pathlib, sys, time
from lorajax.errors import InputError
from lorajax.experiment import pipeline
from lorajax.experiment.config import Experiment
from lorajax.experiment.workdir import Workdir
me, gate, *workdirs = sys.argv[1:]
print('ready', flush=True)
while not pathlib.Path(gate).exists():
    pass
for files in 60 * [Workdir(pathlib.Path(workdir)) for workdir in workdirs]:
    try:
        with pipeline.lock(files):
            mine = files.root / 'mine'
            assert not mine.exists(), 'two are inside'
            mine.write_text(me)
            time.sleep(0.002)
            assert mine.read_text() == me
            mine.unlink()
    except InputError as error:
        assert 'another process is running there' in str(error), error
"""
    new, there, gate = tmp_path / 'new', tmp_path / 'there', tmp_path / 'gate'
    there.mkdir()
    racers = [
        subprocess.Popen(
            [sys.executable, '-c', script, str(number), gate, new, there], cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(3)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout.readline() == 'ready\n', racer.stderr.read()
    gate.touch()
    for racer in racers:
        _, stderr = racer.communicate(timeout=120)
        assert racer.returncode == 0, stderr
    for workdir in (new, there):
        assert not workdir.exists() or os.listdir(workdir) in ([], ['.lock'])
    assert there.exists()


def test_a_work_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / 'file').write_text('')
    with (
        pytest.raises(ArgumentError, match='is a file, expected a directory'),
        pipeline.lock(Workdir(tmp_path / 'file')),
    ):
        raise AssertionError('entered')


def test_real_rows_run_end_to_end(shared_data, tmp_path):
    texts = tiny_models.texts_below(shared_data / 'gsm8k')
    tiny_models.write(tmp_path / 'qwen', 'qwen2', texts)
    tiny_models.write(tmp_path / 'llama', 'llama', texts, num_hidden_layers=3)
    run(
        *SMALL, f'--source_model={tmp_path}/qwen', f'--target_model={tmp_path}/llama',
        f'--data_dir={shared_data}', f'--workdir={tmp_path}/run', '--num_epochs=1',
        '--anchors=gsm8k,arc_challenge,mbpp', '--heldouts=gsm_hard,openbookqa_test',
        '--max_len=512', '--nodiagnostics', '--experiments=1', '--methods=mean',
        '--train_per_task=4', '--eval_per_task=3',
    )  # fmt: skip
    assert 'openbookqa_test' in (tmp_path / 'run/report/ROUND4_REPORT.md').read_text()


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'wandb', None)
    run = Experiment(workdir=str(tmp_path / 'run'), report_to=('wandb',))
    with pytest.raises(ArgumentError, match='report_to wandb: needs wandb'):
        pipeline.run(run)
    assert not run.files.root.exists()
