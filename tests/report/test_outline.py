"""The order of the report, and what stands before everything."""

import re

import pytest

from lorajax.report.markdown import to_markdown
from lorajax.report.outline import make_document
from tests.fake_run import make_fake_run

SEED_ORDER = [
    'Experiment 1 — Main table',
    'Headline',
    'Experiment 2 — Anchor-count + Top-K scaling',
    'Experiment 3 — Cross-domain transfer',
    'Honest failure modes',
]


@pytest.fixture(scope='module')
def text(fake_report) -> str:
    return (fake_report / 'ROUND4_REPORT.md').read_text()


def _headings(text):
    return re.findall(r'^## (.+)$', text, re.MULTILINE)


def _section(text, title):
    return text.split(f'## {title}\n')[1].split('\n## ')[0]


def test_the_answer_comes_first_then_the_seeds_sections_in_the_seeds_order(text):
    headings = _headings(text)
    assert headings[:3] == ['Methods, best first', 'Sample answers', 'How to read this']
    assert headings[3 : 3 + len(SEED_ORDER)] == SEED_ORDER
    assert headings[-3:] == ['Top-K selection log', 'Recipe', 'Provenance']
    assert 'Models: X=fixture/Source-3B → Y=fixture/Target-3B' in text


def test_primary_number_is_said_before_everything(text):
    lead = text.split('## ')[0]
    assert 'Primary number: delta_ridge, fixed beforehand' in lead
    assert lead.index('adapter of the source model is translated') < lead.index('Models: X=')


def test_overlap_and_provenance(text):
    assert '0 of 96 cells are not zero' in text
    assert '| git_commit | 0000000 |' in _section(text, 'Provenance')


def test_a_bare_run_still_gets_a_report():
    run = make_fake_run(n=8, experiments=False)
    run.diagnostics, run.eval_items = {}, {}
    text = to_markdown(make_document(run.results(), run.config, None, {}, {'main', 'gap'}))
    assert _headings(text)[2 : 2 + len(SEED_ORDER)] == SEED_ORDER
    assert _section(text, SEED_ORDER[2]).strip() == 'Not run.'
    assert 'The run holds no overlap matrix.' in text
    assert 'main.png' in text and 'loss.png' not in text
