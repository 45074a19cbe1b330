"""A report as data: sections of text, lists, tables and figures.

The Markdown report and the HTML page are two renderings of one `Document`, so they cannot
disagree.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

MISSING = '—'


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
      name: its heading.
      form: format specification of its numbers, such as '.3f'; '' prints values as they
        are.
      help: what the heading means, for a tooltip.
    """

    name: str
    form: str = ''
    help: str = ''


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of raw values; None is printed as a dash, [value, low, high] as an interval."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    caption: str = ''


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclasses.dataclass(frozen=True)
class Bullets:
    """An unordered list."""

    items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture by name ('main' is report/main.png), with what it shows in words."""

    name: str
    alt: str


@dataclasses.dataclass(frozen=True)
class Bar:
    """One line of a `Chart`.

    Attributes:
      label: of the line.
      value: where its bar ends.
      low, high: ends of its interval; None if there is none.
      kind: 'selected', 'learned', 'trained' or 'control'.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    kind: str


@dataclasses.dataclass(frozen=True)
class Chart(Figure):
    """A figure whose numbers a page can draw itself, at any width.

    Attributes:
      bars: from top to bottom.
      marks: words for places on the axis, such as {0: 'no adapter'}.
      legend: words for the kinds of bars.
    """

    bars: Sequence[Bar] = ()
    marks: Mapping[float, str] = dataclasses.field(default_factory=dict)
    legend: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def place(self, value: float) -> float:
        """Returns where a value lies on the axis, 0 to 100; those outside lie at its ends."""
        ends = [*self.marks, *(v for bar in self.bars for v in (bar.value, bar.low, bar.high))]
        known = [max(-0.5, min(v, 1.5)) for v in ends if v is not None] or [0.0]
        low, high = min(known), max(known)
        return 100 * (max(low, min(value, high)) - low) / ((high - low) or 1)


Block = Table | Text | Bullets | Figure


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """The section's name in a link."""
        return re.sub(r'[^a-z0-9]+', '-', self.title.lower()).strip('-')

    def only_figures(self, names: Set[str]) -> 'Section':
        """Returns the section without figures that could not be drawn."""
        kept = [b for b in self.blocks if not isinstance(b, Figure) or b.name in names]
        return dataclasses.replace(self, blocks=kept)


@dataclasses.dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    lead: Sequence[str]
    sections: Sequence[Section]


def cell_text(value: Any, form: str) -> str:
    """Returns a table cell as plain text.

    Args:
      value: a string, number, truth value, None, or a list of numbers: two are an
        interval, three a value with its interval.
      form: format specification for the numbers.
    """
    if value is None:
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float | list | tuple):
        return str(value)
    if isinstance(value, int | float):
        return format(value, form)
    *point, low, high = (cell_text(v, form) for v in value)
    if low == high == MISSING:
        return point[0] if point else MISSING
    return ' '.join([*point, f'[{low}, {high}]'])


def sort_value(value: Any) -> float | str | None:
    """Returns what a table sorts a cell by: its number, or its text."""
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    if isinstance(value, bool | int | float):
        return float(value)
    return None if value is None else str(value)


def is_numeric(table: Table, column: int) -> bool:
    """Returns whether a column holds numbers (and is set flush right)."""
    values = [row[column] for row in table.rows if row[column] is not None]
    return bool(values) and all(
        isinstance(v, int | float | list | tuple) and not isinstance(v, bool) for v in values
    )
