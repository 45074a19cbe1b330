"""What the mappings say of themselves, and the references beside them."""

from lorajax.report.document import Document, Figure
from lorajax.report.markdown import to_markdown
from lorajax.report.sections import mappings
from tests.report.seed_results import seed_results


def _text(section):
    return to_markdown(Document('', [], [section]))


def test_nothing_to_say():
    assert mappings.references(seed_results()) is None
    assert mappings.diagnostics(seed_results()) is None
    assert mappings.costs({}) is None


def test_references_with_cosines():
    values = {'gap_recovered': [0.9, 0.8, 1.0], 'nll_gap_recovered': None}
    part = {
        'run': True,
        'methods': {'repeated': values},
        'cosines': {'one': {'mean': 0.1, 'repeated': 0.5}, 'two': {'mean': 0.2}},
    }
    text = _text(mappings.references(seed_results() | {'references': part}))
    assert '| repeated | 0.900 [0.800, 1.000] | — | the oracle trained once more' in text
    assert '| mean | 0.100 | 0.200 |' in text and '| repeated | 0.500 | — |' in text


def test_what_a_method_has_over_the_placebo(fake_results):
    placebo = {'gap_recovered': [0.2, 0.1, 0.3], 'nll_gap_recovered': None}
    part = {'run': True, 'methods': {'placebo': placebo}, 'cosines': {}}
    gap = fake_results['experiment1']['pooled_gap_recovered']['delta_ridge'][0]
    text = _text(mappings.references(fake_results | {'references': part}))
    assert f'| delta_ridge | {(gap - 0.2) / 0.8:.3f} |' in text


def test_diagnostics_are_single_numbers_and_a_picture(fake_results):
    section = mappings.diagnostics(fake_results)
    assert '| delta_ridge | 0.21 | 0.3 |' in _text(section)
    assert any(isinstance(block, Figure) for block in section.blocks)


def test_sizes_of_predictions_that_have_them():
    reports = {
        'one': {'norm_ratio': 0.5, 'energy_lost': 0.01},
        'two': {'norm_ratio': 0.7, 'energy_lost': 0.25},
    }
    found = {'a': {'predictions': reports}, 'b': {'predictions': {'one': {'norm_ratio': 1.0}}}}
    text = _text(mappings.diagnostics(seed_results() | {'diagnostics': found}))
    assert '| a | 0.600 | 0.500 | 0.700 | 0.2500 |' in text
    assert '| b | 1.0' not in text


def test_costs_need_all_three_numbers():
    measured = {'fit_seconds': 1.25, 'predict_seconds': 0.5, 'peak_memory_bytes': 3e9}
    text = _text(mappings.costs({'a': measured, 'b': {'fit_seconds': 1.0}}))
    assert '| a | 1.25 | 0.50 | 3.00 |' in text and '| b |' not in text
