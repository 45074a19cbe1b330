"""The model card is one that the Hub reads, and it warns where it should."""

import huggingface_hub
import pytest

import lorajax
from lorajax.mapping import model_card

DIAGNOSTICS = {
    'method': 'delta_ridge',
    'anchors': ['t0', 't1'],
    'loo_r2': 0.25,
    'loo_cosine': 0.5,
    'anchor_span_distances': [0.4, 0.6],
}


def make(distance=0.5, base="o'brien/model: 3B", **diagnostics):
    report = {'distance_to_span': distance, 'weights': {'t0': 0.7, 't1': 0.3}, 'energy_lost': 0.01}
    return model_card.model_card(
        bases={'source': 'a/source', 'target': base},
        adapter='mine',
        mapping='run/mappings/delta_ridge',
        diagnostics=DIAGNOSTICS | diagnostics,
        report=report,
    )


def test_the_hub_reads_the_front_matter():
    data = huggingface_hub.ModelCard(make()).data
    assert data.base_model == "o'brien/model: 3B"
    assert data.library_name == 'peft' and 'translated-adapter' in data.tags


def test_the_card_tells_where_the_adapter_comes_from():
    text = make()
    names = ['`mine`', '`a/source`', '`run/mappings/delta_ridge`', '`delta_ridge`']
    for part in (*names, '0.250', '- t0: weight 0.700', '0.50 of its norm', lorajax.__version__):
        assert part in text
    assert 'Warning' not in text


@pytest.mark.parametrize('distance, warns', [(0.3, False), (0.6, False), (0.61, True), (1.0, True)])
def test_warns_of_adapters_farther_out_than_any_anchor_left_out(distance, warns):
    assert (model_card.warning(DIAGNOSTICS, {'distance_to_span': distance}) is not None) == warns
    assert ('**Warning:**' in make(distance)) == warns


def test_a_combination_is_judged_by_the_distances_of_its_parts():
    nested = {'parts': {'bilinear': {}, 'delta_ridge': DIAGNOSTICS}}
    assert model_card.anchor_distances(nested) == [0.4, 0.6]
    assert model_card.warning({}, {'distance_to_span': 0.9}) is None
    assert model_card.warning(DIAGNOSTICS, {}) is None


def test_an_adapter_of_answers_has_a_card_too():
    bases = {'source': 'a/source', 'target': 'a/target'}
    text = model_card.distilled_card(bases, 'mine', [('prompts', '3')], ['few', 'short'], 4)
    data = huggingface_hub.ModelCard(text).data
    assert data.base_model == 'a/target' and 'translated-adapter' in data.tags
    assert text.count('**Warning:**') == 2 and '| prompts | 3 |' in text
    assert '--max-lora-rank 8' in text and lorajax.__version__ in text and 'Anchors' not in text


def test_says_when_a_mapping_is_no_better_than_the_mean_or_cannot_be_judged():
    assert 'falls back' in model_card.expectation(DIAGNOSTICS | {'fallback': 'mean'})
    assert 'not known' in model_card.expectation({'loo_r2': None})


def test_a_fallback_is_a_warning_on_the_card():
    text = make(0.1, fallback='mean')
    assert '**Warning:** left-out anchors are predicted no better' in text
    assert 'every adapter is translated to the same' in text


def test_expectations_say_how_anchors_were_left_out_and_when_they_tell_nothing():
    known = DIAGNOSTICS | {'validation': '4-fold for the bilinear part'}
    assert model_card.expectation(known).endswith('cosine 0.500 (4-fold for the bilinear part)')
    assert 'no better than the mean' in model_card.expectation(known | {'loo_r2': -0.1})
    assert 'no better' not in model_card.expectation(known)
