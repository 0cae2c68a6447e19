"""Square: random search with square patches, which uses logits only."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from inres_tf.attacks import counter_rng, geometry, losses
from inres_tf.attacks.engine import (
    IterativeAttack,
    ModelFn,
    RunParams,
    State,
    is_misclassified,
    restart_runs,
    run_attack,
)
from inres_tf.attacks.norms import norm_order

if TYPE_CHECKING:
    import keras

# The published schedule, for 10,000 queries: from each of these on, the share of the
# image that a patch covers is `share` divided by the number next to it.
_SCHEDULE = {
    0: 1,
    11: 2,
    51: 4,
    201: 8,
    501: 16,
    1001: 32,
    2001: 64,
    4001: 128,
    6001: 256,
    8001: 512,
}
# Number of queries in one run, between which progress is shown and Ctrl-C is handled.
_SLICE = 500


def sides(
    height: int,
    width: int,
    queries: int,
    share: float,
    order: float,
    rescale: bool = True,
) -> np.ndarray:
    """Returns the side of the patch at each query, in pixels: (queries,).

    Args:
        height: height of the images.
        width: width of the images.
        queries: number of queries.
        share: share of the image that the first patches cover.
        order: order of the norm, `np.inf` or 2.
        rescale: whether the published schedule of 10,000 queries is scaled to
            `queries`.

    Reference:
        As in `square`, section 3 and the authors' schedule.
    """
    numbers = np.arange(queries)
    if rescale:
        numbers = numbers * 10000 // queries
    edges = np.array(list(_SCHEDULE))
    divisors = np.array(list(_SCHEDULE.values()))
    shares = share / divisors[np.searchsorted(edges, numbers, side="right") - 1]
    result = np.round(np.sqrt(shares * height * width)).astype(int)
    largest = min(height, width)
    if order == np.inf:
        return np.clip(result, 1, largest)
    result = np.clip(result, 3, largest)
    # Odd, so that the pattern has a center.
    odd = np.where(result < largest, result + 1, result - 1)
    return np.where(result % 2, result, odd)


def pattern(side: int) -> np.ndarray:
    """Returns the patch of the L2 attack: a peak and its negative, of norm 1.

    Args:
        side: side of the patch, in pixels.

    Returns:
        The patch, (side, side).

    Reference:
        As in `square`, section 3.3.
    """
    result = np.zeros((side, side))
    half = side // 2
    for rows, sign in ((slice(half), 1), (slice(half, side), -1)):
        height = len(range(side)[rows])
        if height:
            result[rows] = sign * _peak(height, side)
    return result / np.sqrt((result**2).sum())


def _peak(height, width):
    """Sum of nested rectangles around the center, of heights 1 / n^2, of norm 1."""
    center = np.array([height // 2, width // 2])
    result = np.zeros((height, width))
    for ring in range(max(center) + 1):
        top, left = np.maximum(center - ring, 0)
        bottom, right = center + ring + 1
        result[top:bottom, left:right] += 1 / (ring + 1) ** 2
    return result / np.sqrt((result**2).sum())


@dataclasses.dataclass(frozen=True)
class Square(IterativeAttack):
    """Random patches, kept if they increase the margin of the other classes.

    Attributes:
        queries: number of patches tried; their sides shrink with it.
        share: share of the image that the first patches cover.
        rescale: whether the published schedule of 10,000 queries is scaled to
            `queries`.
    """

    queries: int = 5000
    share: float = 0.8
    rescale: bool = True

    def initialize(self, model_fn: ModelFn, state: State, params: RunParams) -> State:
        """Starts at stripes (L-infinity) or tiles (L2), or resumes the last slice."""
        keys = counter_rng.key(params.seed, state["ids"], params.restart, -1)
        clean, shape = state["clean"], state["clean"].shape[1:]
        if self.order == np.inf:
            change = params.eps * counter_rng.signs(keys, (1, *shape[1:]))
        else:
            change = params.eps * geometry.unit(_tiles(keys, shape), 2)
        start = geometry.clip_pixels(clean + change)
        start = tf.where(params.first_step > 0, state["adversarial"], start)
        return state | self._query(model_fn, start, state["labels"])

    def step(
        self, model_fn: ModelFn, state: State, number: tf.Tensor, params: RunParams
    ) -> State:
        """Tries one patch."""
        keys = counter_rng.key(params.seed, state["ids"], params.restart, number)
        candidates = self._candidates(state, keys, number, params.eps)
        new = self._query(model_fn, candidates, state["labels"])
        better = (new["score"] > state["score"]) | (
            new["misclassified"] & ~state["misclassified"]
        )
        return state | {
            name: tf.where(
                geometry.per_image(better) if name == "adversarial" else better,
                new[name],
                state[name],
            )
            for name in new
        }

    def _query(self, model_fn, images, labels):
        logits = model_fn(images)
        return {
            "adversarial": images,
            "misclassified": is_misclassified(logits, labels),
            "score": losses.margin(logits, labels),
        }

    def _candidates(self, state, keys, number, eps):
        """The best images so far with one more patch each."""
        clean, best = state["clean"], state["adversarial"]
        height, width, channels = clean.shape[1:]
        by_query = sides(
            height, width, self.queries, self.share, self.order, self.rescale
        )
        side = tf.gather(tf.constant(by_query, tf.int32), number)
        positions = counter_rng.uniform(keys, (2, 2))
        signs = counter_rng.signs(counter_rng.key(1, keys), (1, 1, channels))
        window = _window(positions[:, 0], side, height, width)
        if self.order == np.inf:
            candidates = best + 2 * eps * signs * window
            return geometry.project(candidates, clean, eps, self.order)

        # The new patch gets the norm of the change in both windows, and what is left of
        # eps.
        change = best - clean
        other = _window(positions[:, 1], side, height, width)
        both = tf.maximum(window, other)
        unused = tf.maximum(eps**2 - geometry.size(change, 2) ** 2, 0.0) / channels
        norm = tf.sqrt(geometry.per_image(unused) + _squared_norms(change * both))
        flips = counter_rng.uniform(counter_rng.key(2, keys), (1,))[:, 0] > 0.5
        new = signs * _patch(positions[:, 0], side, by_query, height, width, flips)
        new += _unit_channels(change * window)
        new = _unit_channels(new * window) * norm
        change = change * (1 - both) + new
        return geometry.clip_pixels(clean + eps * geometry.unit(change, 2))


def _corner(positions, side, height, width):
    """Top and left pixels of windows, (batch, 1) each, at positions in (0, 1)."""
    room = tf.cast(tf.stack([height - side + 1, width - side + 1]), tf.float32)
    corner = tf.cast(positions * room, tf.int32)
    return corner[:, :1], corner[:, 1:]


def _window(positions, side, height, width):
    """1 inside the windows and 0 outside: (batch, height, width, 1)."""
    top, left = _corner(positions, side, height, width)
    rows, columns = tf.range(height)[None], tf.range(width)[None]
    rows = (rows >= top) & (rows < top + side)
    columns = (columns >= left) & (columns < left + side)
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    return tf.cast(inside, tf.float32)


def _patch(positions, side, by_query, height, width, flips):
    """The pattern of a side in its window: (batch, height, width, 1)."""
    all_sides = sorted(set(by_query.tolist()))
    largest = max(all_sides)
    table = np.zeros((len(all_sides), largest, largest), np.float32)
    for index, one_side in enumerate(all_sides):
        table[index, :one_side, :one_side] = pattern(one_side)
    chosen = tf.cast(tf.constant(all_sides) == side, tf.float32)
    values = tf.tensordot(chosen, table, 1)
    top, left = _corner(positions, side, height, width)
    rows = tf.clip_by_value(tf.range(height)[None] - top, 0, largest - 1)
    columns = tf.clip_by_value(tf.range(width)[None] - left, 0, largest - 1)

    def placed(values):
        lines = tf.gather(values, rows)
        return tf.gather(lines, columns, axis=2, batch_dims=1)[..., None]

    transposed = placed(tf.transpose(values))
    return tf.where(geometry.per_image(flips), transposed, placed(values))


def _tiles(keys, shape):
    """Adjacent patterns of a fifth of the image, with random signs."""
    height, width, channels = shape
    side = max(min(height, width) // 5, 1)
    rows, columns = height // side, width // side
    signs = counter_rng.signs(keys, (rows, columns, channels))
    signs = tf.repeat(tf.repeat(signs, side, axis=1), side, axis=2)
    tiles = np.tile(pattern(side), (rows, columns))[..., None]
    below, right = height - rows * side, width - columns * side
    # The rest of the image, half on each side, is left unchanged.
    edges = [[below // 2, below - below // 2], [right // 2, right - right // 2]]
    return tf.pad(signs * tiles.astype(np.float32), [[0, 0], *edges, [0, 0]])


def _unit_channels(change):
    """Scales each channel of each image to norm 1."""
    return change / (tf.sqrt(_squared_norms(change)) + 1e-12)


def _squared_norms(change):
    """Squared norms of the channels: (batch, 1, 1, channels)."""
    return tf.reduce_sum(change**2, axis=(1, 2), keepdims=True)


def square(
    model: keras.Model,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    eps: float,
    *,
    queries: int = 5000,
    restarts: int = 1,
    share: float = 0.8,
    rescale: bool = True,
    norm: str = "linf",
    seed: int = 0,
    early_stop: bool = False,
    batch_size: int = 256,
    ids: npt.ArrayLike | None = None,
    progress: str = "",
) -> np.ndarray:
    """Square attack: random search that uses logits only.

    Args:
        model: Keras classifier of pixels in [0, 255] that ends in logits or a softmax.
        images: pixels in [0, 255], uint8 or float, (number, height, width, channels).
        labels: true classes, integers, (number,).
        eps: radius of the ball, in 1/255 of the pixel range: at most 255 for `"linf"`.
        queries: number of patches tried on an image.
        restarts: number of random starts.
        share: share of the image that the first patches cover, in (0, 1].
        rescale: whether the published schedule of 10,000 queries is scaled to
            `queries`; if not, it is followed as far as they go, as in AutoAttack.
        norm: `"linf"` or `"l2"`.
        seed: seed of the random numbers.
        early_stop: whether an image leaves the batch as soon as it is misclassified,
            even before the first step; if not, the search for a higher loss continues.
        batch_size: number of images attacked at a time.
        ids: indices of the images in their dataset, from which their random numbers
            are derived; 0, 1, ... by default.
        progress: label of a progress bar; empty for none.

    Returns:
        Adversarial pixels, float32, of the shape of `images`: those of highest loss,
        the margin of the other classes.

    Raises:
        ValueError: if the logits cannot be found, or an argument is out of range.
        AttackError: if an example lies outside its ball or the pixel range, or a loss
            or gradient is non-finite. Images with NaN logits count as misclassified.

    Example:
        >>> from inres_tf import attacks, data
        >>> test = data.load("digits").test.take(slice(4))
        >>> model = zoo.InResNet8(input_shape=(8, 8, 1))
        >>> adversarial = attacks.square(
        ...     model, test.images, test.labels, eps=8, queries=20
        ... )
        >>> adversarial.shape
        (4, 8, 8, 1)

    Reference:
        Andriushchenko et al.: Square Attack: a Query-efficient Black-box Adversarial
        Attack via Random Search, ECCV 2020. Here every image draws its own patches.
    """
    if int(queries) != queries or not 1 <= queries <= 10**6:
        raise ValueError(
            f"`queries` must be from 1 to 10^6. Received: queries={queries}"
        )
    if not 0 < share <= 1:
        raise ValueError(f"`share` must be in (0, 1]. Received: share={share}")
    queries = int(queries)
    starts = range(0, queries, _SLICE)
    runs = [
        run._replace(first_step=start, last_step=min(start + _SLICE, queries))
        for run in restart_runs(restarts, last_step=queries)
        for start in starts
    ]
    return run_attack(
        model,
        images,
        labels,
        eps,
        Square(norm_order(norm), queries, float(share), bool(rescale)),
        runs,
        seed=seed,
        early_stop=early_stop,
        batch_size=batch_size,
        ids=ids,
        progress=progress,
    )
