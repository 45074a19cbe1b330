"""The seed's sections with the seed's numbers."""

from lorajax.report.document import Document
from lorajax.report.markdown import to_markdown
from lorajax.report.sections import seed
from tests.report.seed_results import seed_results
from tests.seed_table import METHODS, PRINTED


def _markdown(*sections):
    return to_markdown(Document('', [], sections))


def test_the_seeds_counts_print_the_seeds_table():
    lines = _markdown(seed.main_table(seed_results())).splitlines()
    rows = [line.strip('| ').replace(' | ', ' ') for line in lines if line.startswith('| ')]
    middle = ' '.join(METHODS[1:])
    assert rows[0] == f'Domain Task base_Y {middle} oracle_minus_base_pp usable gap_recovered'
    assert rows[2:] == PRINTED


def test_the_seeds_counts_say_the_seeds_headline():
    text = _markdown(seed.headline(seed_results()))
    assert 'Best learned method minus mean baseline, averaged over usable held-outs: 0.0187' in text
    assert 'Excluded held-outs: arc_challenge' in text and '[' not in text


def test_the_main_table_says_which_methods_its_gap_counts(fake_results):
    text = _markdown(seed.main_table(fake_results))
    counted, others = text.split('It counts ')[1].split('; not ')
    assert counted.startswith('mean, ') and 'delta_ridge' in counted
    assert 'distilled' not in counted and 'base' not in counted + others


def test_recipe_says_what_differs_from_the_seed():
    config = dict(seed.SEED_RECIPE)
    same = _markdown(seed.recipe(seed_results(), config))
    assert 'Differences from the published Round 4: none.' in same
    other = _markdown(seed.recipe(seed_results(), config | {'lora_rank': 4, 'protocol': 'cot'}))
    assert 'Differences from the published Round 4: lora_rank 4 (published 16).' in other
    assert 'protocol = cot.' in other


def test_ablations_that_were_run(fake_results):
    text = _markdown(seed.scaling(fake_results), seed.transfer(fake_results))
    cell = fake_results['experiment2']['cells'][0]
    value, low, high = cell['gap_recovered']
    assert f'| {cell["accuracy"]:.3f} | {value:.3f} [{low:.3f}, {high:.3f}] |' in text
    assert '| math | math-only |' in text
    assert 'best pool ahead by' in text
    for cell in fake_results['experiment3']['pools']:
        value, low, high = cell['gap_recovered']
        assert f'| {value:.3f} [{low:.3f}, {high:.3f}] |' in text
    assert 'Not run.' not in text


def test_ablations_that_were_not_run():
    text = _markdown(seed.scaling(seed_results()), seed.transfer(seed_results()))
    assert text.count('Not run.') == 2
    assert 'No top-k method was run.' in _markdown(seed.topk_log(seed_results()))


def test_topk_log(fake_results):
    text = _markdown(seed.topk_log(fake_results))
    assert '| gsm_hard | math_counting_easy, math_algebra_easy,' in text
