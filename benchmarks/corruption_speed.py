r"""How fast the corruptions are: seconds for 10,000 CIFAR images.

python benchmarks/corruption_speed.py --output=docs/benchmarks_corruptions.md

See `measure` for the method.
"""

import functools
import statistics

import environment  # noqa: F401
import measure
import numpy as np
from absl import app, flags

from inres_tf import corruptions, markdown
from inres_tf.corruptions import CORRUPTIONS, GROUPS, SEVERITIES

FLAGS = flags.FLAGS
flags.DEFINE_integer("images", 10_000, "Images to corrupt; times are scaled to 10,000.")
flags.DEFINE_integer("rounds", 3, "Rounds of the measurement.")
flags.DEFINE_string("output", None, "Markdown file to write, as well as stdout.")

# Goal: seconds for the four noises at five severities.
NOISE_GOAL = 60


def seconds_by_round() -> dict[str, list[float]]:
    """Seconds per 10,000 images at all severities, by corruption and round."""
    shape = (FLAGS.images, 32, 32, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def run(name):
        for severity in SEVERITIES:
            corruptions.corrupt(images, name, severity)

    functions = {name: functools.partial(run, name) for name in CORRUPTIONS}
    seconds = measure.compare(functions, FLAGS.rounds, "corruptions")
    scale = 10_000 / FLAGS.images
    return {name: [scale * s for s in values] for name, values in seconds.items()}


def main(_):
    """Runs the measurements and writes the document."""
    seconds = seconds_by_round()
    severities = len(SEVERITIES)
    rows = [
        [name, f"{statistics.median(values) / severities:.2f} s"]
        for name, values in seconds.items()
    ]
    noises = (seconds[name] for name in GROUPS["noise"])
    total = [sum(values) for values in zip(*noises)]
    overall = statistics.median(sum(values) for values in zip(*seconds.values()))
    text = f"""# How fast the corruptions are

    python benchmarks/corruption_speed.py --output=docs/benchmarks_corruptions.md

{measure.machine()}.
Seconds per 10,000 images of 32×32×3 random pixels, measured with {FLAGS.images}: mean
over the severities, median of {FLAGS.rounds} rounds in which the corruptions take
turns. The machine is shared.

{markdown.table(["corruption", "one severity"], rows)}

Seconds for the noise group, four kinds of noise at five severities:
{measure.verdict(total, NOISE_GOAL)}.
All {len(rows)} corruptions at five severities: {overall:.0f} s.
"""
    measure.write(text, FLAGS.output)


if __name__ == "__main__":
    app.run(main)
