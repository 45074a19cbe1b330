"""What the report holds against a run."""

from lorajax.report.document import Document
from lorajax.report.markdown import to_markdown
from lorajax.report.sections.failure_modes import failure_modes
from tests.report.seed_results import seed_results


def _text(results):
    return to_markdown(Document('', [], [failure_modes(results)]))


def test_the_seeds_counts_name_the_exclusion():
    text = _text(seed_results())
    assert 'Excluded from averages: arc_challenge has oracle-base = 0.67 pp.' in text
    assert 'No method was fixed beforehand' in text
    assert 'intervals treat methods as independent' in text
    assert 'Experiment 2 (anchor scaling) was not run.' in text


def test_failure_modes_name_what_the_scorers_cannot_see():
    results = seed_results()
    rows = results['experiment1']['rows']
    rows[0]['details'] = {'parsed': {'base': 0.7, 'oracle': 1.0}}
    rows[2]['details'] = {'by=proxy': {'base': 1.0}, 'truncated': {'base': 0.2}}
    text = _text(results)
    assert 'counted wrong: gsm_hard.' in text
    assert 'not pass@1: mbpp_test_held.' in text
    assert 'without a readable answer, worst method of each task: gsm_hard 30.0% (base)' in text
    assert 'cut off at the token limit, worst method of each task: mbpp_test_held 20.0%' in text


def test_losses_that_are_no_numbers_are_said():
    results = seed_results()
    results['experiment1']['rows'][1]['nll_undefined'] = {'mean': 1, 'global_ridge': 300}
    text = _text(results)
    assert (
        'Losses that are no number, so that the method is left out of the loss of that task: '
        'gsm8k_test_500 mean 1 of 300, gsm8k_test_500 global_ridge 300 of 300.'
    ) in text
    assert 'no number' not in _text(seed_results())


def test_a_whole_run_says_which_tasks_share_problems(fake_results):
    text = _text(fake_results)
    assert 'gsm_hard, gsm8k_test_500 hold the same problems' in text.replace(
        'gsm8k_test_500, gsm_hard', 'gsm_hard, gsm8k_test_500'
    )
    assert 'was not run' not in text
