"""The written report: the seed's sections and numbers, made from the files of a run."""

import re
import shutil

import pytest

from lorajax.errors import InputError
from lorajax.evaluation import stats
from lorajax.experiment.workdir import Workdir
from lorajax.report import write
from lorajax.report.document import Document, to_markdown
from lorajax.report.sections import extra, seed
from lorajax.report.sections.failure_modes import failure_modes
from tests.fake_run import write_fake_run
from tests.seed_table import COUNTS, METHODS, PRINTED

SEED_ORDER = [
    'Recipe',
    'Experiment 1 — Main table',
    'Headline',
    'Top-K selection log',
    'Experiment 2 — Anchor-count + Top-K scaling',
    'Experiment 3 — Cross-domain transfer',
    'Honest failure modes',
]


@pytest.fixture(scope='module')
def text(fake_run) -> str:
    return (fake_run.report / 'ROUND4_REPORT.md').read_text()


def _headings(text):
    return re.findall(r'^## (.+)$', text, re.MULTILINE)


def _section(text, title):
    return text.split(f'## {title}\n')[1].split('\n## ')[0]


def test_files(fake_run):
    names = sorted(path.name for path in fake_run.report.iterdir())
    assert names == [
        'ROUND4_REPORT.md',
        'gap.png',
        'loss.png',
        'main.png',
        'report.html',
        'scaling.png',
        'similarity.png',
        'transfer.png',
    ]


def test_the_seeds_sections_come_first_in_the_seeds_order(text):
    assert _headings(text)[: len(SEED_ORDER)] == SEED_ORDER
    assert 'Models: X=fixture/Source-3B → Y=fixture/Target-3B' in text


def test_every_linked_figure_exists(fake_run, text):
    figures = re.findall(r'\]\((.+?\.png)\)', text)
    assert len(figures) == 6
    assert all((fake_run.report / name).exists() for name in figures)


def test_primary_number_is_said_before_everything(text):
    lead = text.split('## ')[0]
    assert 'Primary number: delta_ridge, fixed beforehand' in lead


def test_overlap_and_provenance(text):
    assert '0 of 96 cells are not zero' in text
    assert '| git_commit | 0000000 |' in _section(text, 'Provenance')


def _seed_results():
    return {
        'source_model': 'X',
        'target_model': 'Y',
        'experiment1': stats.experiment1(COUNTS),
        'topk': {},
        'experiment2': {'run': False, 'cells': []},
        'experiment3': {'run': False, 'cells': [], 'best_pool': {}, 'selected': {}},
        'diagnostics': {},
    }


def test_the_seeds_counts_print_the_seeds_table():
    section = seed.main_table(_seed_results())
    lines = to_markdown(Document('', [], [section])).splitlines()
    rows = [line.strip('| ').replace(' | ', ' ') for line in lines if line.startswith('| ')]
    middle = ' '.join(METHODS[1:])
    assert rows[0] == f'Domain Task base_Y {middle} oracle_minus_base_pp usable gap_recovered'
    assert rows[2:] == PRINTED


def test_the_seeds_counts_say_the_seeds_headline_and_exclusion():
    found = _seed_results()
    document = Document('', [], [seed.headline(found), failure_modes(found)])
    text = to_markdown(document)
    assert 'Best learned method minus mean baseline, averaged over usable held-outs: 0.0187' in text
    assert "Excluded held-outs: ['arc_challenge']" in text
    assert 'Excluded from averages: arc_challenge has oracle-base = 0.67 pp.' in text
    assert 'No method was fixed beforehand' in text
    assert 'intervals treat methods as independent' in text
    assert 'Experiment 2 (anchor scaling) was not run.' in text


def test_failure_modes_name_what_the_scorers_cannot_see():
    found = _seed_results()
    rows = found['experiment1']['rows']
    rows[0]['details'] = {'parsed': {'base': 0.7, 'oracle': 1.0}}
    rows[2]['details'] = {'by=proxy': {'base': 1.0}, 'truncated': {'base': 0.2}}
    text = to_markdown(Document('', [], [failure_modes(found)]))
    assert 'counted wrong: gsm_hard.' in text
    assert 'not pass@1: mbpp_test_held.' in text
    assert 'without a readable answer, worst method of each task: gsm_hard 30.0% (base)' in text
    assert 'cut off at the token limit, worst method of each task: mbpp_test_held 20.0%' in text


def test_primary_sentence_without_a_number():
    found = _seed_results()
    assert 'no method was fixed' in extra.primary_sentence(found)
    counts = {'t': {'n': 9, 'base': 1, 'x': 1, 'oracle': 1}}
    found['experiment1'] = stats.experiment1(counts, selected_method='x')
    assert 'no held-out is usable' in extra.primary_sentence(found)


def test_nonzero_overlap_is_counted():
    cells = {'mbpp': {'plus': {'id': 3, 'exact': 1, 'ngram13': 9}, 'hard': {'id': 0, 'exact': 0}}}
    text = to_markdown(Document('', [], [extra.overlap({'cells': cells, 'train': {}})]))
    assert '1 of 2 cells are not zero' in text and '3 / 1 / 9' in text


def test_same_files_give_the_same_report(fake_run, tmp_path):
    shutil.copytree(fake_run.root, tmp_path / 'copy')
    copy = Workdir(tmp_path / 'copy')
    shutil.rmtree(copy.report)
    copy.results.unlink()
    write.write(copy)
    for path in fake_run.report.iterdir():
        assert (copy.report / path.name).read_bytes() == path.read_bytes(), path.name
    assert copy.results.read_bytes() == fake_run.results.read_bytes()


def test_a_bare_run_still_gets_a_report(tmp_path):
    workdir = write_fake_run(tmp_path, n=8, experiments=False)
    shutil.rmtree(workdir.root / 'mappings')
    shutil.rmtree(workdir.root / 'data')
    write.write(workdir)
    text = (workdir.report / 'ROUND4_REPORT.md').read_text()
    assert _headings(text)[: len(SEED_ORDER)] == SEED_ORDER
    assert _section(text, SEED_ORDER[4]).strip() == 'Not run.'
    assert 'The run holds no overlap matrix.' in text
    assert 'loss.png' not in text and not (workdir.report / 'loss.png').exists()


def test_missing_config(tmp_path):
    with pytest.raises(InputError, match=r'config.json: no such file'):
        write.write(Workdir(tmp_path))
    assert not list(tmp_path.iterdir())
