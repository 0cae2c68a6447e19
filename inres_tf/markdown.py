"""Markdown tables of percentages."""

import statistics
from collections.abc import Sequence


def percent(values: Sequence[float]) -> str:
    """Formats the accuracies of several seeds as a percentage.

    Args:
        values: accuracies in [0, 1], one per seed.

    Returns:
        Their mean and, if there are several, `±` their standard deviation.

    Example:
        >>> from inres_tf import markdown
        >>> markdown.percent([0.8, 0.9])
        '85.0 ± 7.1'
    """
    mean = f"{100 * statistics.fmean(values):.1f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {100 * statistics.stdev(values):.1f}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Formats a markdown table whose columns are also aligned as plain text.

    Example:
        >>> from inres_tf import markdown
        >>> print(markdown.table(["model", "clean"], [["resnet20", "92.1"]]))
        | model    | clean |
        |----------|-------|
        | resnet20 | 92.1  |
    """
    cells = [
        [" ".join(cell.split()).replace("|", "\\|") for cell in row]
        for row in [header, *rows]
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
