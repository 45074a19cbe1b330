"""Mappings are fitted, predictions written, answers distilled; all of it once."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from lorajax import io, lora, mapping
from lorajax.distillation import ladder
from lorajax.errors import InputError
from lorajax.experiment import adapters
from lorajax.experiment.stages import map as stage
from lorajax.tasks import examples


def bytes_of(directory):
    return (directory / 'adapter_model.safetensors').read_bytes()


def test_a_prediction_is_that_of_the_stored_mapping(toy_run):
    (task,) = toy_run.heldouts
    fitted = mapping.load(toy_run.files.mapping('matched_ridge'))
    expected = fitted.predict(adapters.load_trained(toy_run, 'source', task))
    config, stored = lora.load_peft(toy_run.files.predicted('matched_ridge', task))
    assert config.base_model == toy_run.model_directory('target')
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), stored, expected)


def test_a_mapping_is_whole_with_its_sums_and_says_what_it_is_between(toy_run):
    directory = toy_run.files.mapping('matched_ridge')
    io.check_sums(directory)
    bases = json.loads((directory / 'bases.json').read_text())
    hashes = json.loads(toy_run.files.config.read_text())['model_hashes']
    assert bases == {side: toy_run.model_directory(side) for side in adapters.SIDES} | {
        f'{side}_weights': hashes[side] for side in adapters.SIDES
    }
    diagnostics = json.loads((directory / 'diagnostics.json').read_text())
    assert {'fit_seconds', 'predictions', 'loo_r2'} <= diagnostics.keys()


def test_the_selected_method_is_the_learned_one_whose_left_out_anchors_do_best(toy_run):
    selection = json.loads(toy_run.files.selection.read_text())
    assert selection['selected_method'] == 'matched_ridge'
    for scores in ('loo_r2', 'left_out_loss'):  # mean and diagnostics never count
        assert set(selection[scores]) == {'matched_ridge'}
    losses = mapping.load(toy_run.files.mapping('matched_ridge')).diagnostics['functional']
    assert set(losses) == set(toy_run.anchors)
    assert all(row['own'] < min(row['none'], row['left_out']) for row in losses.values())


def test_task_loss_decides_where_distance_would_choose_otherwise(toy_run, monkeypatch):
    losses = {'matched_ridge': 0.4, 'global_ridge': 0.3}
    monkeypatch.setattr(stage.methods, 'fitted', lambda _: list(losses))
    known = {
        name: {'loo_r2': loss, 'functional': {'t': {'left_out': loss}}}
        for name, loss in losses.items()
    }
    monkeypatch.setattr(stage, 'read_diagnostics', lambda _, name: known[name])
    assert stage._select(toy_run)['selected_method'] == 'global_ridge'
    for row in known.values():
        row['functional'] = None
    assert stage._select(toy_run)['selected_method'] == 'matched_ridge'


def test_answers_are_learned_and_a_lost_adapter_is_made_again_to_the_same_bytes(copied_run):
    files, (task,) = copied_run.files, copied_run.heldouts
    directory = files.predicted('distilled', task)
    first = bytes_of(directory)
    rows = files.answered(task).read_text().splitlines()
    assert len(rows) == 64
    assert all(json.loads(row)['prompt'].startswith('code') for row in rows)
    shutil.rmtree(directory)
    assert stage.fit_and_predict(copied_run)
    assert bytes_of(directory) == first and not files.pool_checkpoints('distilled').exists()
    start, end = (
        lora.load_peft(files.predicted(name, task))[1] for name in ('matched_ridge', 'distilled')
    )
    assert np.abs(start['layers']['q_proj']['b'] - end['layers']['q_proj']['b']).max() > 1e-4
    assert not stage.fit_and_predict(copied_run)


def test_fewer_prompts_are_answered_where_that_is_asked_for(copied_run, monkeypatch):
    (task,) = copied_run.heldouts
    asked = []

    def distill(load_source, load_target, queries, prompts, config, start_from, **options):
        asked.append(len(prompts))
        options['state'].mkdir(parents=True)
        return start_from

    monkeypatch.setattr(stage, 'distill', distill)
    for run in (copied_run, dataclasses.replace(copied_run, distill_prompts=6)):
        shutil.rmtree(run.files.predicted('distilled', task))
        assert stage.fit_and_predict(run)
    assert asked == [2 * copied_run.train_per_task, 6]


def test_weights_are_fitted_to_answers_one_held_out_after_the_other(copied_run, monkeypatch):
    (task,) = copied_run.heldouts
    calls = []

    def climb(load_source, load_target, anchors, sources, start, prompts, limits):
        calls.append((list(sources), list(anchors.source), prompts, limits.max_len))
        assert load_source()[0] is load_source()[0], 'a model is loaded once'
        return {name: ladder.Reached(adapter) for name, adapter in start.items()}

    monkeypatch.setattr(ladder, 'climb', climb)
    run = dataclasses.replace(
        copied_run, methods=('reweighted',), reweight_prompts=8, distill_from='matched_ridge'
    )
    assert stage.fit_and_predict(run)
    rows = examples.read(run.files.train_data(task))[:8]
    assert calls == [([task], sorted(run.anchors), [row.asked for row in rows], run.max_len)]
    start, end = (
        lora.load_peft(run.files.predicted(name, task))[1]
        for name in ('matched_ridge', 'reweighted')
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), start, end)
    assert not stage.fit_and_predict(run) and len(calls) == 1


def test_a_mapping_that_was_lost_is_fitted_again(copied_run):
    (task,) = copied_run.heldouts
    before = bytes_of(copied_run.files.predicted('mean', task))
    shutil.rmtree(copied_run.files.mapping('mean'))
    assert stage.fit_and_predict(copied_run)
    assert bytes_of(copied_run.files.predicted('mean', task)) == before
    io.check_sums(copied_run.files.mapping('mean'))


def test_cosines_compare_every_prediction_with_the_oracle(toy_run):
    (task,) = toy_run.heldouts
    cosines = json.loads(toy_run.files.cosines.read_text())[task]
    assert set(cosines) == {
        'mean', 'matched_ridge', 'distilled', 'placebo', 'span_oracle_tensor', 'repeated',
    }  # fmt: skip
    assert cosines['span_oracle_tensor'] >= cosines['matched_ridge'] > cosines['placebo']


def test_damaged_diagnostics_are_refused(copied_run):
    path = copied_run.files.diagnostics('matched_ridge')
    path.write_text(path.read_text().replace('"loo_r2": ', '"loo_r2": 9', 1))
    copied_run.files.selection.unlink()
    with pytest.raises(InputError, match=str(path)):
        stage.fit_and_predict(copied_run)
