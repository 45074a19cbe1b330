"""One adapter: what became of it is judged, written down and refused where it does harm."""

import pathlib

import numpy as np
import pytest

from lorajax import io, mapping
from lorajax.commands import translation
from lorajax.commands.translation import Mapped
from lorajax.distillation import ladder
from lorajax.errors import ArgumentError, InputError
from lorajax.mapping import advice
from lorajax.mapping.advice import Known
from tests.mapping.worlds import make_world

ADAPTER = {'layers': {'q_proj': {'a': np.ones((1, 2, 2)), 'b': np.ones((1, 2, 2))}}}
PATH = pathlib.Path('p')


@pytest.fixture(scope='module')
def mapped():
    source, target = make_world()
    return Mapped('m', mapping.fit('matched_scaled', source, target),
                  {'source': 'a/source', 'target': 'a/target'})  # fmt: skip


def judge(mapped, loss, force=False, query=ADAPTER, **known):
    losses = {'none': 1.0, 'map': 1.5, 'reweighted': loss}
    reached = ladder.Reached(ADAPTER, 'reweighted', 6, losses, 0.05, 2, **known)
    prediction = mapping.Prediction(ADAPTER, {'distance_to_span': 0.5})
    return translation.judge(mapped, PATH, query, prediction, reached, force)


def test_kept_out_answers_decide_whatever_was_expected(mapped):
    with pytest.raises(InputError, match=r'p: its translation is worse than no adapter \(1.200 ag'):
        judge(mapped, 1.2)
    assert judge(mapped, 1.2, force=True).judged.word == 'do not use'
    assert judge(mapped, 0.1).judged.word == 'use'
    assert judge(mapped, 0.1, is_backed=False).judged.word == 'check first'


def test_an_adapter_of_zeros_is_not_translated(mapped):
    empty = {'layers': {'q_proj': {'a': np.ones((1, 2, 2)), 'b': np.zeros((1, 2, 2))}}}
    with pytest.raises(InputError, match=r'p: it changes nothing, .* nothing to translate; force'):
        judge(mapped, 0.1, query=empty)
    assert judge(mapped, 0.1, query=empty, force=True).judged.word == 'use'


def test_a_row_of_a_summary_has_what_was_seen_and_expected(mapped):
    row = judge(mapped, 0.1, notes=('n',)).to_json()
    assert row['rung'] == 'reweighted' and row['verdict'] == 'use' and row['notes'] == ['n']
    assert row['kept_out_losses']['reweighted'] == 0.1
    expected = row['expected_share_of_map']
    assert expected['low'] <= expected['share'] <= expected['high']


def test_the_card_has_what_the_run_of_the_mapping_measured(mapped, tmp_path):
    ours = mapped._replace(path=str(tmp_path / 'mappings/matched_scaled'))
    assert translation.measured(ours) == translation.measured(mapped) == ''
    pooled = {'matched_scaled': [0.9023, 0.889, 0.916]}
    io.write_json(tmp_path / 'results.json', {'experiment1': {'pooled_gap_recovered': pooled}})
    translation.write(tmp_path / 'out', ours, judge(ours, 0.1), 'float32')
    card = (tmp_path / 'out' / 'README.md').read_text()
    assert 'run of the mapping | 0.90 of what retraining gains, 95 % interval 0.89 to 0.92' in card
    assert translation.measured(ours._replace(path=str(tmp_path / 'mappings/other'))) == ''
    pooled['matched_scaled'] = [None, 0.1, 0.2]
    io.write_json(tmp_path / 'results.json', {'experiment1': {'pooled_gap_recovered': pooled}})
    with pytest.raises(InputError, match='expected a number with its interval'):
        translation.measured(ours)


def test_the_card_says_how_to_check_and_load_it(mapped, tmp_path):
    translation.write(tmp_path / 'out', mapped, judge(mapped, 0.1), 'float32')
    card = (tmp_path / 'out' / 'README.md').read_text()
    assert 'lorajax generate --model=a/target --adapter=.' in card
    assert "PeftModel.from_pretrained(model, '.')" in card
    assert 'vllm serve a/target --enable-lora --max-lora-rank 8' in card
    assert '| expected of the map for this adapter | ' in card


def test_advice_counts_pairs_and_knows_bases_that_are_one(mapped):
    asked = translation.advise(mapped, Known(prompts=32))
    assert (asked.rung, 'from 32 prompts' in asked.reason) == (advice.REWEIGHTED, True)
    assert translation.advise(mapped, Known()).rung == advice.MAP  # some pairs, as the mapping has
    hashes = {'source_weights': 'x', 'target_weights': 'x'}
    same = mapped._replace(bases={**mapped.bases, **hashes})
    assert translation.advise(same, Known()).rung == advice.COPY
    assert translation.advise(same, Known(weight_cosine=0.5)).rung == advice.MAP  # was looked at


@pytest.mark.parametrize(('a', 'b', 'zero'), [(1, 1, False), (0, 1, True), (1, 0, True)])
def test_an_adapter_with_a_zero_factor_changes_nothing(a, b, zero):
    entry = {'a': np.full((1, 2, 2), a), 'b': np.full((1, 2, 2), b)}
    assert translation.is_zero({'layers': {'q_proj': entry}}) == zero


def test_bases_are_two_names(tmp_path):
    io.write_json(tmp_path / 'bases.json', ['a'])
    with pytest.raises(InputError, match='expected the names of source and target'):
        translation.read_bases(tmp_path / 'bases.json')
    with pytest.raises(ArgumentError, match='is no fitted mapping, expected RUN/mappings/METHOD'):
        translation.read_bases(tmp_path / 'nowhere/bases.json')
