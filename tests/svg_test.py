import re

import pytest

from inres_tf import plotting, svg


@pytest.fixture
def figure():
    """A figure of two panels, one of them with a colour bar, and a legend."""
    figure, (left, right) = plotting.make_axes(2)
    left.plot([0, 1], [3, 5], "s--", color="tab:orange", label="<a>")
    left.fill_between([0, 1], [1, 2], [3, 4], label="area")
    left.set(xlabel="x", ylabel="y", title="left")
    shown = right.imshow([[0, 1], [2, 3]])
    figure.colorbar(shown, ax=right, label="bar")
    plotting.shared_legend(figure, left)
    return figure


def test_a_figure_is_split_into_its_legend_and_panels(figure):
    entries, panels = svg.split(figure, "name")
    assert entries == [
        svg.Entry("<a>", "var(--c1)", "s", dash=True),
        svg.Entry("area", "var(--c0)", filled=True),
    ]
    left, right = panels
    assert 'aria-label="left: y over x; &lt;a&gt; from 3 to 5"' in left
    # Each panel shows only itself, the right one with its colour bar.
    assert ">left<" in left and ">bar<" not in left
    assert ">bar<" in right and ">left<" not in right
    assert "&lt;a&gt;" not in left.split(">", 1)[1]  # no legend
    widths = [float(re.search(r"--width: (\d+)", panel)[1]) for panel in panels]
    assert all(250 < width < 400 for width in widths)


def test_drawings_are_small_and_have_ids_of_their_own(figure):
    _, panels = svg.split(figure, "name")
    ids = [re.findall(r' id="([^"]+)"', panel) for panel in panels]
    assert ids[0] and ids[1] and not set(ids[0]) & set(ids[1])
    for panel, own in zip(panels, ids):
        assert panel.startswith("<svg viewBox=") and panel.endswith("</svg>")
        assert set(re.findall(r"url\(#([^)]+)\)", panel)) <= set(own)
        assert set(re.findall(r'href="#([^"]+)"', panel)) <= set(own)
        assert not re.search("<style|<metadata|<!--|http|xlink|font-family", panel)
        assert "#000000" not in panel and "currentColor" in panel
        assert "#ff7f0e" not in panel


def test_ticks_are_shown_in_full():
    figure, (ax,) = plotting.make_axes()
    ax.plot([0, 1], [0, 0.075])
    ax.set_yticks([0.025, 0.075])
    _, (panel,) = svg.split(figure, "name")
    assert ">0.025<" in panel and ">0.075<" in panel
    assert not re.search(r"<[^>]*\d\.\d{3}", panel)  # coordinates


def test_drawings_do_not_depend_on_the_time(figure):
    first = svg.split(figure, "name")[1]
    assert svg.split(figure, "name")[1] == first


def test_error_bars_and_histograms_have_entries():
    figure, (ax,) = plotting.make_axes()
    ax.errorbar([1], [2], yerr=[1], color="tab:green", marker="D", ls="", label="point")
    ax.hist([1, 2, 2], color="#123456", label="bars")
    ax.legend()
    entries, _ = svg.split(figure, "x")
    assert svg.Entry("point", "var(--c2)", "D") in entries
    assert svg.Entry("bars", "#123456", filled=True) in entries
