"""The names of a run's files are those that the documents promise."""

import pathlib

from lorajax.experiment.workdir import Workdir


def test_names_are_those_of_the_contract():
    files = Workdir(pathlib.Path('W'))
    names = {
        files.config: 'W/config.json',
        files.model('source'): 'W/models/source',
        files.adapter('target', 't'): 'W/adapters/target/t',
        files.mapping('mean'): 'W/mappings/mean',
        files.diagnostics('mean'): 'W/mappings/mean/diagnostics.json',
        files.predicted('mean', 't'): 'W/predicted/mean/t',
        files.outcomes('t'): 'W/outcomes/t.jsonl',
        files.study_outcomes('experiment2', 't'): 'W/outcomes/experiment2/t.jsonl',
        files.results: 'W/results.json',
        files.metrics: 'W/metrics.jsonl',
        files.report_text: 'W/report/ROUND4_REPORT.md',
    }
    assert {path.as_posix(): name for path, name in names.items()} == {
        name: name for name in names.values()
    }


def test_no_two_files_share_a_name():
    files = Workdir(pathlib.Path('W'))
    paths = [
        *(getattr(files, name) for name, value in vars(Workdir).items()
          if isinstance(value, property)),
        files.model('source'), files.adapter('source', 't'), files.bases('m'),
        files.pool_checkpoints('source'), files.checkpoints('source', 'g'), files.train_data('t'),
        files.training_lock('source', 'g'), files.item_metrics('source', 'g'),
        files.eval_data('t'), files.answered('t'), files.predicted('m', 't'), files.outcomes('t'),
    ]  # fmt: skip
    assert len(paths) == len(set(paths))
