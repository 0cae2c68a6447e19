"""Figures as inline SVG for HTML pages: one drawing per panel, one legend for all."""

from __future__ import annotations

import dataclasses
import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from inres_tf.plotting import color_cycle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_LINES = 8  # whose ends a description names


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry of a legend.

    Attributes:
        label: its text.
        color: a colour as CSS.
        marker: matplotlib's name of the marker; empty for none.
        dash: whether its line is dashed.
        filled: whether it is an area, not a line.
    """

    label: str
    color: str
    marker: str = ""
    dash: bool = False
    filled: bool = False


def split(figure: Figure, name: str) -> tuple[list[Entry], list[str]]:
    """Splits a figure into its legend and one drawing for each of its panels.

    Colours become variables of the page's style sheet where there is one, so that the
    drawings follow dark mode.

    Args:
        figure: the figure, whose legends are removed.
        name: name of the figure, unique on the page.

    Returns:
        The entries of all legends, each once, and an `svg` element for each panel.
    """
    entries = _take_legends(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    bars = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    mains: list[Any] = [ax for ax in figure.axes if ax not in bars]
    panels = []
    for i, main in enumerate(mains):
        # A colour bar belongs to the panel on its left.
        shown = [main, *(bar for bar in bars if _left_of(bar, mains) is main)]
        for ax in figure.axes:
            ax.set_visible(ax in shown)
        panels.append(_draw(figure, shown, f"{name}-{i}"))
    return entries, panels


def _left_of(bar, axes):
    """The panel nearest to the left of a colour bar, in its row."""
    place = bar.get_position()
    row = [ax for ax in axes if abs(_middle(ax) - _middle(bar)) < place.height / 2]
    return max(
        (ax for ax in row if ax.get_position().x0 < place.x0),
        key=lambda ax: ax.get_position().x0,
    )


def _middle(ax) -> float:
    place = ax.get_position()
    return (place.y0 + place.y1) / 2


def _take_legends(figure) -> list[Entry]:
    """Removes the legends of a figure and its panels, and returns their entries."""
    handles: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    entries = []
    for legend in [*figure.legends, *(ax.get_legend() for ax in figure.axes)]:
        if legend is not None:
            texts = (text.get_text() for text in legend.get_texts())
            entries += [_entry(text, handles[text]) for text in texts]
            legend.remove()
    return list(dict.fromkeys(entries))


def _entry(label: str, handle: Any) -> Entry:
    """The entry of a line, an area, or a container of such."""
    from matplotlib import colors
    from matplotlib.lines import Line2D

    if isinstance(handle, tuple):  # error bars or the bars of a histogram
        handle = handle[0]
    line = isinstance(handle, Line2D)
    color = handle.get_color() if line else handle.get_facecolor()
    if not isinstance(color, str):  # numbers, maybe of several equal areas
        color = tuple(np.ravel(color)[:3])
    name = colors.to_hex(color)
    marker = str(handle.get_marker()) if line else ""
    return Entry(
        label,
        _variables().get(name, name),
        "" if marker == "None" else marker,
        line and handle.get_linestyle() == "--",
        filled=not line,
    )


def _draw(figure: Figure, axes: list[Axes], name: str) -> str:
    """Draws the visible part of a figure."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        renderer = FigureCanvasAgg(figure).get_renderer()
        boxes = [box for ax in axes if (box := ax.get_tightbbox(renderer))]
        area = type(boxes[0]).union(boxes).padded(3)
        inches = area.transformed(figure.dpi_scale_trans.inverted())
        figure.savefig(
            file,
            format="svg",
            transparent=True,
            bbox_inches=inches,
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
    return _cleaned(file.getvalue(), name, _described(axes[0]), 72 * inches.width)


def _cleaned(text: str, name: str, label: str, width: float) -> str:
    """An SVG file as an element of a page, which knows its width in points."""
    import markupsafe

    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    text = re.sub(
        r' id="([^"]+)"',
        lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "",
        text,
    )
    text = re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)
    # The page chooses the font.
    text = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", text)
    text = re.sub(r"font-family:[^;\"]+;? *", "", text)
    # Hundredths of a point are enough, but not in the labels of ticks.
    text = re.sub(r"<[^>]*>", lambda m: re.sub(r"(\d\.\d\d)\d+", r"\1", m[0]), text)
    for color, variable in _variables().items():
        text = text.replace(color, variable)
    text = re.sub(r"\s*\n\s*", "\n", text)
    view = re.search(r'viewBox="[^"]+"', text)
    opening = (
        f'<svg {view[0] if view else ""} role="img" style="--width: {width:.0f}" '
        f'aria-label="{markupsafe.escape(label)}">'
    )
    return re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1).strip()


def _described(ax) -> str:
    """Describes a panel to those who do not see it: its axes, and where lines end."""
    axes = [f"{ax.get_ylabel()} over {ax.get_xlabel()}"]
    lines = [line for line in ax.get_lines() if not line.get_label().startswith("_")]
    ends = [
        f"{line.get_label()} from {y[0]:.3g} to {y[-1]:.3g}"
        for line in lines[:_MOST_LINES]
        if len(y := line.get_ydata()) > 1
    ]
    title = ax.get_title().replace("\n", " ")
    return ": ".join(filter(None, [title, "; ".join(axes + ends)]))


def _variables() -> dict[str, str]:
    """Variables of the style sheet by the colour that they stand for."""
    from matplotlib import colors

    lines = zip(color_cycle(), range(10))
    return {"#000000": "currentColor"} | {
        colors.to_hex(color): f"var(--c{i})" for color, i in lines
    }
