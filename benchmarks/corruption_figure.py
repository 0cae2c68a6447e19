"""Draws an example image under each corruption.

python benchmarks/corruption_figure.py docs/images/corruptions.png
"""

import sys

import numpy as np
import numpy.typing as npt
import PIL.ImageDraw
from matplotlib.figure import Figure

from inres_tf import corruptions, plotting
from inres_tf.corruptions import CORRUPTIONS


def scene() -> np.ndarray:
    """A drawn house under a sky: uint8 pixels, (32, 32, 3)."""
    picture = PIL.Image.new("RGB", (256, 256))
    draw = PIL.ImageDraw.Draw(picture)
    for row in range(256):
        draw.line((0, row, 255, row), (80 + row // 3, 140 + row // 4, 230))
    draw.ellipse((180, 20, 225, 65), (255, 230, 90))
    draw.ellipse((-80, 160, 360, 420), (70, 140, 60))
    draw.rectangle((60, 110, 170, 205), (200, 90, 60))
    draw.polygon([(45, 112), (115, 50), (185, 112)], (90, 45, 40))
    draw.rectangle((80, 130, 110, 160), (240, 240, 210))
    draw.rectangle((125, 145, 152, 205), (50, 40, 60))
    return np.asarray(picture.resize((32, 32), PIL.Image.Resampling.BOX))


def figure(image: npt.ArrayLike | None = None, severity: int = 3) -> Figure:
    """A matplotlib figure of an image and its version under each corruption.

    Args:
        image: uint8 pixels, (height, width, 1 or 3); None for `scene`.
        severity: 1 to 5.
    """
    image = scene() if image is None else np.asarray(image)
    versions = {"original": image} | {
        name: corruptions.corrupt(image[None], name, severity)[0]
        for name in CORRUPTIONS
    }
    columns = 7
    rows = -(-len(versions) // columns)
    overview = Figure(figsize=(1.5 * columns, 1.7 * rows), layout="constrained")
    axes = overview.subplots(rows, columns).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, (name, pixels) in zip(axes, versions.items()):
        ax.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        ax.set_title(name, fontsize=9)
    return overview


if __name__ == "__main__":
    plotting.save(figure(), sys.argv[1])
