"""The page: self-contained, and unimpressed by what models write."""

import base64
import hashlib
import html.parser
import json
import re

import pytest

from lorajax.io import read_json, read_jsonl
from lorajax.report import html as page_module
from lorajax.report import write
from lorajax.report.html import harmless_json, item_browser
from tests.fake_run import HOSTILE


class _Reader(html.parser.HTMLParser):
    """Collects tags with their attributes, and the text of script elements."""

    def __init__(self):
        super().__init__()
        self.tags, self.scripts, self.ids, self.in_script = [], [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == 'script':
            self.scripts.append('')
        self.ids += [value for name, value in attrs if name == 'id']

        self.in_script = tag == 'script'

    def handle_endtag(self, tag):
        self.in_script = False

    def handle_data(self, data):
        if self.in_script:
            self.scripts[-1] += data


@pytest.fixture(scope='module')
def page(fake_run) -> str:
    return (fake_run.report / 'report.html').read_text()


@pytest.fixture(scope='module')
def reader(page) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    return reader


@pytest.mark.parametrize('text', [*HOSTILE, '\ud800 lone', '&lt;/script&gt;', '\u2029]]>'])
def test_harmless_json_reads_back(text):
    encoded = harmless_json({'text': text})
    assert not set(encoded) & set('<>&') and encoded.isascii()
    assert json.loads(encoded) == {'text': text}


def test_two_scripts_and_the_data_reads_back(fake_run, found, reader):
    assert [a.get('type') for tag, a in reader.tags if tag == 'script'] == [
        'application/json',
        None,
    ]
    data = json.loads(reader.scripts[0])
    assert data == item_browser(fake_run, found)
    assert 'forged' in reader.scripts[0] and 'forged' not in reader.scripts[1]


def test_nothing_is_loaded(reader):
    for tag, attributes in reader.tags:
        assert tag not in ('link', 'iframe', 'object', 'embed', 'base', 'img')
        assert not set(attributes) & {'src', 'srcset', 'action', 'onerror', 'onclick'}
        target = attributes.get('href') or attributes.get('xlink:href') or '#'
        assert target.startswith(('#', 'data:image/png;base64,')), target


def test_policy_allows_the_one_script_by_its_hash(page, reader):
    policy = next(a['content'] for tag, a in reader.tags if 'content' in a and 'http-equiv' in a)
    digest = base64.b64encode(hashlib.sha256(reader.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


def test_sections_link_and_ids_are_unique_outside_pictures(page):
    outside = re.sub(r'<svg.*?</svg>', '', page, flags=re.DOTALL)
    reader = _Reader()
    reader.feed(outside)
    assert len(reader.ids) == len(set(reader.ids))
    links = [a['href'][1:] for tag, a in reader.tags if tag == 'a']
    assert set(links) <= set(reader.ids)


def test_names_are_escaped(fake_run, found, page):
    forged = json.loads(json.dumps(found).replace('placebo', '<b onload=x>placebo'))
    forged['target_model'] = '<script>alert(1)</script>'
    document = write.make_document(forged, read_json(fake_run.config), None, {}, set())
    text = page_module.render(document, forged, {}, {'tasks': []})
    assert '<b onload' not in text and '<script>alert' not in text
    assert '&lt;script&gt;alert(1)' in text


def test_item_browser_keeps_every_answer(fake_run, found):
    browser = item_browser(fake_run, found)
    assert [entry['task'] for entry in browser['tasks']] == [
        row['task'] for row in found['experiment1']['rows']
    ]
    entry = browser['tasks'][0]
    answers = {(r['item'], r['method']): r for r in read_jsonl(fake_run.outcomes('gsm_hard'))}
    assert entry['n'] == 60 and len(entry['items']) == 60
    for item in entry['items']:
        assert item['prompt'].startswith('Question')
        assert len(set(item['answers'])) == len(item['answers'])
        for method, place, right in zip(
            entry['methods'], item['given'], item['right'], strict=True
        ):
            outcome = answers[item['item'], method]
            assert item['answers'][place] == outcome['prediction']
            assert bool(right) == outcome['correct']


def test_long_answers_and_many_items_are_cut(fake_run, found, monkeypatch):
    monkeypatch.setattr(page_module, 'MAX_ITEMS', 5)
    monkeypatch.setattr(page_module, 'MAX_CHARS', 10)
    entry = item_browser(fake_run, found)['tasks'][0]
    assert entry['n'] == 60 and len(entry['items']) == 5
    assert re.fullmatch(r'Question 0 \[\d+ more characters\]', entry['items'][0]['prompt'])
