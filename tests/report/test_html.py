"""The page: self-contained, and unimpressed by what models write."""

import base64
import hashlib
import html.parser
import json
import re

import pytest

from lorajax.report.html import harmless_json, render
from lorajax.report.item_browser import item_browser
from lorajax.report.outline import make_document
from lorajax.report.sections.seed import method_names
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
def page(fake_report) -> str:
    return (fake_report / 'report.html').read_text()


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


def test_two_scripts_and_the_data_reads_back(fake_run, fake_results, reader):
    assert [a.get('type') for tag, a in reader.tags if tag == 'script'] == [
        'application/json',
        None,
    ]
    data = json.loads(reader.scripts[0])
    methods = method_names(fake_results)
    assert data == item_browser(fake_run.tables, fake_run.eval_items, methods)
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


def test_names_are_escaped(fake_run, fake_results):
    forged = json.loads(json.dumps(fake_results).replace('placebo', '<b onload=x>placebo'))
    forged['target_model'] = '<script>alert(1)</script>'
    document = make_document(forged, fake_run.config, None, {}, set())
    text = render(document, forged, {}, {'tasks': []})
    assert '<b onload' not in text and '<script>alert' not in text
    assert '&lt;script&gt;alert(1)' in text


def test_words_that_utf_8_cannot_hold_are_replaced(fake_run, fake_results):
    odd = json.loads(json.dumps(fake_results).replace('placebo', 'place\\ud800bo'))
    document = make_document(odd, fake_run.config, None, {}, set())
    text = render(document, odd, {}, {'tasks': []})
    assert 'place\ufffdbo' in text
    text.encode()
