"""Prepare checks everything that can be checked, draws the data, and writes config.json last."""

import dataclasses
import json
import pathlib
import shutil

import pytest

from lorajax import io, toy
from lorajax.errors import ArgumentError, InputError
from lorajax.experiment import pipeline
from lorajax.experiment.stages.prepare import check_prepared
from lorajax.sandbox import runner
from lorajax.tasks import examples


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
    with pytest.raises(InputError, match='methods mean,topk3_global_ridge'):
        pipeline.run(dataclasses.replace(changed, top_k=3))


def test_a_run_says_at_once_whether_programs_will_be_run(experiment, caplog, monkeypatch):
    coding = dataclasses.replace(experiment, heldouts=('mbpp_test_held',))
    with caplog.at_level('WARNING', logger='absl'):
        assert pipeline.run(coding) == ['prepare']
    (line,) = [record.getMessage() for record in caplog.records if 'proxy' in record.message]
    assert line.startswith('mbpp_test_held: ') and 'allow_code_execution' in line

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
        ({'mesh': (3, 1, 1)}, ['mesh 3,1,1', 'number of devices']),
        ({'target_model': 'a/b/c'}, ['a/b/c', 'no such directory']),
    ],
)
def test_bad_choices_are_refused_before_anything_is_written(experiment, change, words):
    check_refused(dataclasses.replace(experiment, **change), words)


def test_task_files_are_tasks_like_others(experiment, tmp_path):
    """Anchor and held-out over the same rows: what is evaluated trains neither of them."""
    lines = [{'prompt': f'say {i}', 'completion': str(i)} for i in range(60)]
    (tmp_path / 'rows.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    for name, version in (('one', 1), ('two', 2)):
        content = {'data_files': 'rows.jsonl', 'metadata': {'version': version}, 'domain': 'echo'}
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
    files = (str(tmp_path / 'one.json'), str(tmp_path / 'two.json'))
    own = dataclasses.replace(
        experiment, anchors=('gsm8k', 'one'), heldouts=('two',), task_files=files,
        train_per_task=100, eval_per_task=100,
    )  # fmt: skip
    assert pipeline.run(own) == ['prepare']
    held = {example.prompt for example in examples.read(own.files.eval_data('two'))}
    for task in own.tasks:
        trained = {example.prompt for example in examples.read(own.files.train_data(task))}
        assert trained and held and not trained & held
    recorded = json.loads(own.files.config.read_text())
    assert recorded['task_versions'] == {'gsm8k': 2, 'one': 1, 'two': 2}
    assert recorded['domains']['two'] == 'echo' and pipeline.run(own) == []
    (tmp_path / 'two.json').write_text(json.dumps({'data_files': 'rows.jsonl'}))
    with pytest.raises(InputError, match='begun with version 2 of the task two, which is now 1'):
        pipeline.run(own)


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


def test_rows_that_were_changed_are_refused(experiment):
    pipeline.run(experiment)
    path = experiment.files.eval_data('arc_challenge')
    assert len(examples.read(path)) == 4
    original = path.read_text()
    path.write_text(original.replace('"answer": "', '"answer": "x', 1))
    with pytest.raises(InputError, match='its rows are not those that'):
        pipeline.run(experiment)
    with pytest.raises(InputError, match=r'eval/arc_challenge.jsonl: '):
        examples.read(path)
    path.write_text(original)
    assert pipeline.run(experiment) == []


def test_every_later_stage_is_refused_other_settings(experiment):
    pipeline.run(experiment)
    later = dataclasses.replace(experiment, stages=('train',), lora_rank=5)
    with pytest.raises(ArgumentError, match=r'lora_rank 5: .* was begun with 4'):
        pipeline.run(later)


@pytest.mark.parametrize('value', [None, [], {}])
def test_a_config_that_is_none_is_refused(experiment, value):
    io.write_json(experiment.files.config, value)
    with pytest.raises(InputError, match=r'run/config.json'):
        check_prepared(experiment)


def test_models_of_the_toy_are_copied_and_recorded(experiment):
    pipeline.run(experiment)
    for side in ('source', 'target'):
        copied = experiment.files.model(side) / 'model.safetensors'
        assert copied.read_bytes() == (toy.MODELS[f'toy-{side}'] / copied.name).read_bytes()
    recorded = json.loads(experiment.files.config.read_text())
    assert {len(digest) for digest in recorded['model_hashes'].values()} == {64}
    assert recorded['domains'] == {'gsm8k': 'math', 'arc_easy': 'science',
                                   'arc_challenge': 'science'}  # fmt: skip
