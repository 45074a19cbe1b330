"""A document as GitHub Markdown."""

import re

from lorajax.report.document import (
    Block,
    Bullets,
    Document,
    Figure,
    Table,
    Text,
    cell_text,
    is_numeric,
)

_UNPRINTABLE = re.compile('[\x00-\x1f\x7f-\x9f\ud800-\udfff]')


def to_markdown(document: Document) -> str:
    """Renders a document as GitHub Markdown; figures are files beside it."""
    parts = [f'# {_escape(document.title)}', *(_escape(text) for text in document.lead)]
    for section in document.sections:
        parts.append(f'## {_escape(section.title)}')
        parts += [_block(block) for block in section.blocks]
    return '\n\n'.join(parts) + '\n'


def _block(block: Block) -> str:
    """One block in Markdown."""
    match block:
        case Text(text):
            return _escape(text)
        case Bullets(items):
            return '\n'.join(f'- {_escape(item)}' for item in items)
        case Figure(name, alt):  # a Chart, too
            return f'![{_escape(alt)}]({name}.png)'
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    """A table in Markdown, its caption above it."""
    marks = ['---:' if is_numeric(table, i) else '---' for i in range(len(table.columns))]
    lines = [
        [_escape(column.name) for column in table.columns],
        marks,
        *(
            [_escape(cell_text(v, c.form)) for v, c in zip(row, table.columns, strict=True)]
            for row in table.rows
        ),
    ]
    body = '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
    return f'{_escape(table.caption)}\n\n{body}' if table.caption else body


def _escape(text: str) -> str:
    """Makes text harmless in Markdown: one line, no table bars, no HTML, no emphasis.

    What a terminal would obey or UTF-8 cannot hold (control characters, lone surrogates) becomes
    U+FFFD.
    """
    text = _UNPRINTABLE.sub('\ufffd', ' '.join(text.split()))
    text = re.sub(r'([\\|`*])', r'\\\1', text)
    return re.sub(r'<(?=[A-Za-z/!?])', '&lt;', text)
