"""The data of the item browser: every answer, and bounded."""

import json
import re

import pytest

from lorajax.report import item_browser as module
from lorajax.report.item_browser import item_browser
from lorajax.report.sections.seed import method_names


@pytest.fixture
def browse(fake_run, fake_results):
    """Returns the data of the whole run when called."""
    methods = method_names(fake_results)
    return lambda: item_browser(fake_run.tables, fake_run.eval_items, methods)


def test_item_browser_keeps_every_answer(fake_run, fake_results, browse):
    browser = browse()
    assert [entry['task'] for entry in browser['tasks']] == [
        row['task'] for row in fake_results['experiment1']['rows']
    ]
    entry = browser['tasks'][0]
    answers = {(r['item'], r['method']): r for r in fake_run.outcomes['gsm_hard']}
    assert entry['n'] == 60 and len(entry['items']) == 60
    for item in entry['items']:
        assert item['prompt'].startswith('Question')
        assert len(set(item['answers'])) == len(item['answers'])
        for method, answer, right in zip(
            entry['methods'], item['answer_of'], item['right'], strict=True
        ):
            outcome = answers[item['item'], method]
            assert item['answers'][answer] == outcome['prediction']
            assert bool(right) == outcome['correct']


def test_long_answers_and_many_items_are_cut(browse, monkeypatch):
    monkeypatch.setattr(module, 'MAX_ITEMS', 5)
    monkeypatch.setattr(module, 'MAX_CHARS', 10)
    entry = browse()['tasks'][0]
    assert entry['n'] == 60 and len(entry['items']) == 5
    assert re.fullmatch(r'Question 0 \[\d+ more characters\]', entry['items'][0]['prompt'])


def test_methods_without_an_answer_and_odd_values():
    row = {'method': 'base', 'item': 'i', 'correct': False, 'prediction': {'a': '\ud800'}}
    table = {'base': {'i': row}, 'late': {'j': {**row, 'prediction': None, 'correct': True}}}
    entry = item_browser({'t': table}, {'t': [{'item': 'i', 'prompt': 7}]}, ['late', 'base'])
    (entry,) = entry['tasks']
    first, second = sorted(entry['items'], key=lambda item: item['item'])
    assert first['answer_of'] == [-1, 0] and first['prompt'] == '7'
    assert first['answers'] == [json.dumps({'a': '\ud800'}, ensure_ascii=False)]
    assert second['answer_of'] == [0, -1] and second['right'] == [1, 0]
    assert second['answers'] == [''] and second['prompt'] == ''
