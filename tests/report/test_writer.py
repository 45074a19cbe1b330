"""The written report: all of its files, and the same ones every time."""

import re

from tests.fake_run import make_fake_run


def test_files(fake_report):
    assert sorted(path.name for path in fake_report.iterdir()) == [
        'ROUND4_REPORT.md',
        'gap.png',
        'loss.png',
        'main.png',
        'report.html',
        'scaling.png',
        'similarity.png',
        'transfer.png',
    ]


def test_every_linked_figure_exists(fake_report):
    figures = re.findall(r'\]\((.+?\.png)\)', (fake_report / 'ROUND4_REPORT.md').read_text())
    assert len(figures) == 6
    assert all((fake_report / name).exists() for name in figures)


def test_same_values_give_the_same_report(fake_report, tmp_path):
    make_fake_run(n=60).write_report(tmp_path)
    for path in fake_report.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_answers_that_utf_8_cannot_hold_do_not_stop_the_report(tmp_path):
    run = make_fake_run(n=8, experiments=False)
    for rows in run.outcomes.values():
        for row in rows:
            row['prediction'] = '\ud800' + row['prediction']
            row['details'] = {'error': "ValueError: '\ud800'"}
    run.write_report(tmp_path)
    assert "error=ValueError: '\ufffd'" in (tmp_path / 'ROUND4_REPORT.md').read_text()
    (tmp_path / 'report.html').read_bytes().decode()
