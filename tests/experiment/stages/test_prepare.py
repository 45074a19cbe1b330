"""Prepare checks everything that can be checked, draws the data, and writes config.json last."""

import dataclasses
import itertools
import json
import pathlib
import shutil

import pytest

from lorajax import io, toy
from lorajax.errors import ArgumentError, InputError
from lorajax.evaluation import outcomes
from lorajax.experiment import newcomers, pipeline
from lorajax.experiment.stages import map as map_stage
from lorajax.experiment.stages import prepare, train
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


def stamps(experiment, pattern):
    """When the files of a run that match a pattern were last written."""
    root = experiment.files.root
    return {path.relative_to(root): path.stat().st_mtime_ns for path in root.glob(pattern)}


def rows_of(experiment, task):
    """The outcomes of a held-out by method and item."""
    rows = outcomes.read(experiment.files.outcomes(task), task)
    return {(row['method'], row['item']): row for row in rows}


def test_methods_and_items_are_added_to_what_is_there(copied_run):
    (task,) = copied_run.heldouts
    more = dataclasses.replace(
        copied_run, methods=(*copied_run.methods, 'global_ridge'), eval_per_task=8
    )
    with pytest.raises(InputError, match='begun with other methods, eval_per_task; run the stage'):
        pipeline.run(dataclasses.replace(more, stages=('map',)))
    before = rows_of(copied_run, task)
    kept = [stamps(copied_run, f'{part}/*/*/*.safetensors') for part in ('adapters', 'predicted')]
    mappings, studies = stamps(copied_run, 'mappings/*/*'), stamps(copied_run, 'outcomes/e*/*')
    assert pipeline.run(more) == ['prepare', 'map', 'evaluate', 'report']
    for then, part in zip(kept, ('adapters', 'predicted'), strict=True):
        assert then.items() <= stamps(more, f'{part}/*/*/*.safetensors').items()
    assert mappings.items() <= stamps(more, 'mappings/*/*').items()
    assert studies == stamps(more, 'outcomes/e*/*')
    after = rows_of(more, task)
    assert before.items() <= after.items() and len(after) == 8 * (len(before) // 6 + 1)
    table = outcomes.read_table(more.files.outcomes(task), task)
    assert 'global_ridge' in table and list(table)[-1] == 'oracle'
    assert 'global_ridge' in more.files.report_text.read_text()
    assert json.loads(more.files.config.read_text())['grown_from'][0]['eval_per_task'] == 6
    assert pipeline.run(more) == []


def test_an_anchor_and_a_held_out_join(copied_run, monkeypatch):
    """They are trained by themselves; mappings are refitted, and what rests on them."""
    (task,) = copied_run.heldouts
    files, one = copied_run.files, copied_run.anchors[0]
    more = dataclasses.replace(
        copied_run, anchors=(*copied_run.anchors, 'toy_code_reverse_1'),
        heldouts=(task, 'toy_code_reverse_3'), anchor_counts=(4,), experiments=('1',),
    )  # fmt: skip
    groups = []

    def train_group(experiment, pool, model, chat, encoded, metrics):
        groups.append((pool.name, sorted(encoded)))
        for name in encoded:
            shutil.copytree(files.adapter(pool.side, one), files.adapter(pool.name, name))

    def distil(experiment, source, target):
        for name in experiment.heldouts:
            shutil.copytree(files.adapter('target', one), files.predicted('distilled', name))

    monkeypatch.setattr(train, '_train_group', train_group)
    monkeypatch.setattr(map_stage, '_distill', distil)
    before, adapters = rows_of(copied_run, task), stamps(copied_run, 'adapters/*/*/*.safetensors')
    assert pipeline.run(more) == ['prepare', 'train', 'map', 'evaluate', 'report']
    new = ['toy_code_reverse_1', 'toy_code_reverse_3']
    assert groups == [('source', new), ('target', new), ('repeated', new[1:])]
    assert adapters.items() <= stamps(more, 'adapters/*/*/*.safetensors').items()
    after = rows_of(more, task)
    assert all(after[key] == row for key, row in before.items() if key[0] in ('base', 'oracle'))
    assert any(after[key] != row for key, row in before.items() if key[0] == 'mean')
    assert json.loads(files.diagnostics('mean').read_text())['anchors'] == sorted(more.anchors)
    assert rows_of(more, new[1]) and not files.study('experiment2').exists()
    assert json.loads(files.config.read_text())['generations'] == [list(copied_run.tasks), new]
    assert pipeline.run(more) == []


def test_a_held_out_that_joins_alone_leaves_the_mappings_as_they_are(copied_run):
    (task,) = copied_run.heldouts
    files, new = copied_run.files, 'toy_code_reverse_3'
    more = dataclasses.replace(copied_run, heldouts=(task, new), experiments=('1',))
    assert pipeline.run(dataclasses.replace(more, stages=('prepare',))) == ['prepare']
    for side in ('source', 'target', 'repeated'):
        shutil.copytree(files.adapter('target' if side == 'repeated' else side, task),
                        files.adapter(side, new))  # fmt: skip
    mappings = stamps(more, 'mappings/mean/**/*.safetensors')
    assert mappings and newcomers.lacking(more)['mean'] == [new]
    for name, tasks in newcomers.lacking(more).items():
        newcomers.predict(more, name, tasks)
    assert not newcomers.lacking(more) and mappings == stamps(
        more, 'mappings/mean/**/*.safetensors'
    )
    for name in ('mean', 'matched_ridge'):  # the same adapter: the same prediction
        first, second = (files.predicted(name, held) for held in more.heldouts)
        weights = 'adapter_model.safetensors'
        assert (first / weights).read_bytes() == (second / weights).read_bytes()
        io.check_sums(files.mapping(name))
        reports = json.loads(files.diagnostics(name).read_text())['predictions']
        assert reports[task] == reports[new]


def test_rows_that_are_needed_for_evaluation_are_unlearned(experiment):
    """With more items some leave a training set; what was made of it is removed."""
    pipeline.run(experiment)
    files = experiment.files
    first = {task: examples.read(files.train_data(task)) for task in experiment.tasks}
    for task in experiment.tasks:
        for side in ('source', 'target'):
            files.adapter(side, task).mkdir(parents=True)
    more = dataclasses.replace(experiment, heldouts=('arc_challenge', 'gsm_hard'), eval_per_task=6)
    assert pipeline.run(more) == ['prepare']
    held = {
        identity
        for task in more.heldouts
        for example in examples.read(files.eval_data(task))
        for identity in example.problem_ids
    }
    for task, rows in first.items():
        now = examples.read(files.train_data(task))
        assert not held & {identity for example in now for identity in example.problem_ids}
        assert files.adapter('source', task).exists() == (now == rows)
    generations = json.loads(files.config.read_text())['generations']
    assert (
        sorted(itertools.chain(*generations)) == sorted(more.tasks)
        and 'gsm_hard' in generations[-1]
    )


def test_a_growth_that_was_killed_is_begun_again(copied_run, monkeypatch):
    more = dataclasses.replace(copied_run, eval_per_task=7)
    (task,) = copied_run.heldouts

    class Killed(BaseException):
        """As a signal that ends the process."""

    def stop(*arguments):
        raise Killed

    monkeypatch.setattr(prepare.io, 'write_json', stop)
    with pytest.raises(Killed):
        prepare.prepare(more)
    monkeypatch.undo()
    assert prepare.prepare(more) and not prepare.prepare(more)
    assert len(examples.read(more.files.eval_data(task))) == 7
