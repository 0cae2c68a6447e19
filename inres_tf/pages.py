"""Self-contained HTML pages, from the templates of this package."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from inres_tf import svg

if TYPE_CHECKING:
    import jinja2
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it shows.
        detail: shown smaller after the text, such as an interval.
        value: what its column is sorted by; the text by default.
        best: whether it is the best of its column or row, shown in bold.
        mark: `"better"`, `"worse"` or empty, shown as a triangle.
        shade: strength of its background in [0, 1].
    """

    text: str
    detail: str = ""
    value: float | None = None
    best: bool = False
    mark: str = ""
    shade: float = 0.0


@dataclasses.dataclass(frozen=True)
class Table:
    """A table, which can be sorted by each column.

    Attributes:
        caption: what it shows.
        header: headings of the columns.
        rows: cells of each row, of which the first is its heading.
        note: explanation below it.
        kind: class of the style sheet, such as `"matrix"`.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    note: str = ""
    kind: str = "sortable"


@dataclasses.dataclass(frozen=True)
class Plot:
    """A figure, as one drawing per panel below a legend.

    Attributes:
        caption: what it shows.
        legend: entries of its legend.
        panels: an `svg` element for each panel.
    """

    caption: str
    legend: Sequence[svg.Entry]
    panels: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph; `quiet` for one that only explains."""

    text: str
    quiet: bool = False


@dataclasses.dataclass(frozen=True)
class Items:
    """Sentences below a heading."""

    title: str
    items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Warned:
    """Warnings, set apart from the rest."""

    lists: Sequence[Items]


@dataclasses.dataclass(frozen=True)
class Facts:
    """Facts by name."""

    facts: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Image:
    """An image with its caption: a PNG in base64."""

    png: str
    alt: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Rows of images below headings.

    Attributes:
        caption: what it shows.
        header: headings of the columns, of which the first is that of `rows`' names.
        rows: by name, the images of a row.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Image]]]


@dataclasses.dataclass(frozen=True)
class Row:
    """Blocks side by side, where they fit."""

    blocks: Sequence[Any]


@dataclasses.dataclass(frozen=True)
class Folded:
    """Blocks below a line that opens them."""

    summary: str
    blocks: Sequence[Any]


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of a page.

    Attributes:
        anchor: its id, unique on the page.
        title: its heading.
        blocks: what it consists of.
    """

    anchor: str
    title: str
    blocks: Sequence[Any]


def plot(figure: Figure, name: str, caption: str) -> Plot:
    """A figure for a page.

    Args:
        figure: the figure, which cannot be used afterwards.
        name: its name, unique on the page.
        caption: what it shows.
    """
    legend, panels = svg.split(figure, name)
    return Plot(caption, legend, panels)


def report(
    title: str,
    subtitle: str,
    verdict: Sequence[str],
    sections: Sequence[Section],
    alert: tuple[str, str] | None = None,
) -> str:
    """A report as one page: verdict first, then contents and sections.

    Args:
        title: heading of the page.
        subtitle: a line below it.
        verdict: sentences, of which the first is the headline.
        sections: the sections. Empty ones are left out.
        alert: a sentence shown right after the headline, and the section it links to.
    """
    return render(
        "report.html",
        title=title,
        subtitle=subtitle,
        verdict=verdict,
        sections=[section for section in sections if section.blocks],
        alert=alert,
    )


def render(template: str, **values: Any) -> str:
    """A page of a template; values are escaped.

    Args:
        template: file name of the template.
        **values: its values.
    """
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("inres_tf"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.tests["cell"] = lambda value: isinstance(value, Cell)
    environment.filters["kind"] = lambda block: type(block).__name__.lower()
    return environment
