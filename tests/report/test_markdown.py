"""A document as Markdown."""

from lorajax.report.document import Bullets, Column, Document, Figure, Section, Table, Text
from lorajax.report.markdown import to_markdown


def test_markdown():
    table = Table([Column('task'), Column('x', '.1f')], [['a|b', 1.25], ['c\nd', None]], 'Caption')
    blocks = [Text('a <b> * `c` < 3'), Bullets(['one', 'two']), Figure('main', 'bars'), table]
    text = to_markdown(Document('Title', ['lead'], [Section('Part — 1', blocks)]))
    assert text.startswith('# Title\n\nlead\n\n## Part — 1\n\n')
    assert 'a &lt;b> \\* \\`c\\` < 3' in text
    assert '- one\n- two' in text and '![bars](main.png)' in text
    assert 'Caption\n\n| task | x |\n| --- | ---: |\n| a\\|b | 1.2 |\n| c d | — |' in text


def test_texts_hold_nothing_that_a_terminal_obeys_or_a_file_cannot_hold():
    text = 'a\x1b[31m\x00 b \x9b \ud800 \x7f \u2028 c'
    table = Table([Column(text)], [[text]], text)
    document = Document(text, [text], [Section(text, [Text(text), Bullets([text]), table])])
    written = to_markdown(document)
    written.encode()
    assert not set('\x00\x1b\x7f\x9b\ud800\u2028') & set(written)
    assert written.count('a\ufffd[31m\ufffd b \ufffd \ufffd \ufffd c') == 8
