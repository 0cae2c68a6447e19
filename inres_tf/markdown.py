"""Markdown tables of percentages."""

import statistics


def percent(values) -> str:
    """Accuracies in [0, 1], one a seed, as per cent: mean, and ± s.d. of several."""
    mean = f"{100 * statistics.fmean(values):.1f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {100 * statistics.stdev(values):.1f}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A markdown table whose columns line up as plain text too."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
