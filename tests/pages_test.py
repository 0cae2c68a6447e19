import re

from inres_tf import pages


def section(*blocks):
    return pages.report("T", "", ["x"], [pages.Section("one", "One", blocks)])


def test_tables_have_scopes_captions_and_values_to_sort_by():
    rows = [["a", pages.Cell("9.5", "± 1", value=9.5, best=True)], ["<b>", "–"]]
    text = section(pages.Table("<Caption>", ["model", "clean"], rows, "A note"))
    assert '<th scope="col">clean</th>' in text
    assert '<th scope="row">&lt;b&gt;</th>' in text and "A note" in text
    assert "<caption><span>&lt;Caption&gt;</span></caption>" in text
    cell = '<td data-value="9.5"><strong>9.5</strong> <small>± 1</small></td>'
    assert cell in text and "<td>–</td>" in text
    assert '<table class="sortable">' in text


def test_marks_are_read_aloud():
    cells = [["a", pages.Cell("1", mark="better"), pages.Cell("2", mark="worse")]]
    text = section(pages.Table("T", ["x", "y", "z"], cells))
    for mark in ("better", "worse"):
        assert f'<span class="hidden">significantly {mark}:</span>' in text


def test_sections_without_content_are_left_out():
    empty = pages.Section("empty", "Empty", [])
    text = pages.report("T", "", ["x"], [empty])
    assert "empty" not in text and "Empty" not in text
    assert re.findall(r'<li><a href="#(\w+)">', text) == ["verdict"]


def test_every_block_is_shown():
    image = pages.Image("QQ==", "alt text", "caption")
    blocks = [
        pages.Text("some text", quiet=True),
        pages.Items("title", ["item"]),
        pages.Warned([pages.Items("check", ["warning"])]),
        pages.Facts({"fact": "value", "command": "<run>"}),
        pages.Gallery("gallery", ["attack", "clean"], [("row", [image])]),
        pages.Row([pages.Text("in a row")]),
        pages.Folded("summary", [pages.Text("folded")]),
    ]
    text = section(*blocks)
    for shown in (
        '<p class="note">some text</p>',
        "<li>item</li>",
        '<div class="warnings"><p><strong>check</strong></p>',
        "<dt>fact</dt><dd>value</dd>",
        "<code>&lt;run&gt;</code>",
        '<img alt="alt text" src="data:image/png;base64,QQ==">caption',
        "<p>in a row</p>",
        "<details><summary>summary</summary>",
    ):
        assert shown in text, shown
