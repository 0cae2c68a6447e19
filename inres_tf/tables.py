"""Tables of results for people: per cent with one decimal, in markdown."""

import statistics


def percent(values) -> str:
    """Accuracies in [0, 1], one a seed, as per cent: mean, and ± s.d. of several."""
    mean = f"{100 * statistics.fmean(values):.1f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {100 * statistics.stdev(values):.1f}"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A markdown table whose columns line up as plain text too."""
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def noise_mean(result: dict) -> float:
    """Mean accuracy over the corruptions of a result of `evaluation.evaluate`."""
    return statistics.fmean(c["mean"] for c in result["corruptions"].values())


def evaluation(result: dict) -> str:
    """One model's result of `evaluation.evaluate` as text for a terminal.

    Args:
        result: the dict that `train.evaluate` writes.
    """
    parts = [
        f"{result['model']} on {result['dataset']}: {result['num_examples']} images, "
        f"{result['protocol']} protocol, accuracy in %",
        f"clean {percent([result['clean']['accuracy']])}",
    ]
    if result["corruptions"]:
        columns = list(next(iter(result["corruptions"].values())))
        rows = [
            [name, *(percent([by[c]]) for c in columns)]
            for name, by in result["corruptions"].items()
        ]
        header = ["corruption", *(f"severity {c}" for c in columns[:-1]), "mean"]
        parts.append(markdown(header, rows))
    if result["attacks"]:
        names = list(dict.fromkeys(row["name"] for row in result["attacks"]))
        radii = list(dict.fromkeys(row["eps"] for row in result["attacks"]))
        found = {(r["name"], r["eps"]): r["accuracy"] for r in result["attacks"]}
        rows = [[n, *(percent([found[n, e]]) for e in radii)] for n in names]
        parts.append(markdown(["attack", *(f"ε = {e:g}/255" for e in radii)], rows))
    raised = [check for check in result.get("checks", []) if check["raised"]]
    if raised:
        lines = (f"- {check['name']}: {check['message']}" for check in raised)
        parts.append(
            "\n".join(["Warnings (docs/evaluation.md explains them):", *lines])
        )
    return "\n\n".join(parts)


def comparison(results: dict[str, list[dict]]) -> dict[str, str]:
    """Several models' results as the paper's two tables, in markdown.

    Args:
        results: for each model, its results of `evaluation.evaluate`, one a seed, all
            with the same settings.

    Returns:
        Dict of the tables by title; a table without columns is left out.
    """
    first = next(iter(results.values()))[0]
    tables = {}
    if first["corruptions"]:
        noises = list(first["corruptions"])
        header = ["model", "clean", *(n.removesuffix("_noise") for n in noises), "mean"]
        rows = [
            [
                model,
                percent([r["clean"]["accuracy"] for r in runs]),
                *(percent([r["corruptions"][n]["mean"] for r in runs]) for n in noises),
                percent([noise_mean(r) for r in runs]),
            ]
            for model, runs in results.items()
        ]
        tables["Stochastic noise: accuracy in %, mean over the severities"] = markdown(
            header, rows
        )
    if first["attacks"]:
        header = ["model", "clean"]
        header += [f"{a['name']} {a['eps']:g}" for a in first["attacks"]]
        rows = [
            [
                model,
                percent([r["clean"]["accuracy"] for r in runs]),
                *(
                    percent([r["attacks"][i]["accuracy"] for r in runs])
                    for i in range(len(first["attacks"]))
                ),
            ]
            for model, runs in results.items()
        ]
        tables["Adversarial attacks: accuracy in %, by ε in 1/255"] = markdown(
            header, rows
        )
    return tables
