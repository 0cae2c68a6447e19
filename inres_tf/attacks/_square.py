"""Square: random search with square patches, which sees logits and no gradient."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from inres_tf.attacks import counter_rng, geometry, losses
from inres_tf.attacks.engine import (
    IterativeAttack,
    is_misclassified,
    restart_runs,
    run_attack,
)
from inres_tf.attacks.norms import norm_order

# Queries of a published schedule of 10,000 from which the share of the image that a
# patch covers is `share` divided by these.
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
# Queries at a time, after which progress shows and Ctrl-C is heard.
_SLICE = 500


def sides(height, width, queries, share, order, rescale=True) -> np.ndarray:
    """Side of the patch at each query, in pixels: (queries,).

    Reference:
        As `square`, section 3 and the authors' schedule.
    """
    at = np.arange(queries)
    if rescale:
        at = at * 10000 // queries
    edges = np.array(list(_SCHEDULE))
    divisors = np.array(list(_SCHEDULE.values()))
    shares = share / divisors[np.searchsorted(edges, at, side="right") - 1]
    found = np.round(np.sqrt(shares * height * width)).astype(int)
    largest = min(height, width)
    if order == np.inf:
        return np.clip(found, 1, largest)
    found = np.clip(found, 3, largest)
    # Odd, so that a pattern has a middle.
    return np.where(found % 2, found, np.where(found < largest, found + 1, found - 1))


def pattern(side: int) -> np.ndarray:
    """The patch of the L2 attack: a peak and its negative, of norm 1: (side, side).

    Reference:
        As `square`, section 3.3.
    """
    found = np.zeros((side, side))
    half = side // 2
    for rows, sign in ((slice(half), 1), (slice(half, side), -1)):
        height = len(range(side)[rows])
        if height:
            found[rows] = sign * _peak(height, side)
    return found / np.sqrt((found**2).sum())


def _peak(height, width):
    """Nested rectangles around the middle, whose heights fall as 1 / n^2; norm 1."""
    middle = np.array([height // 2, width // 2])
    found = np.zeros((height, width))
    for ring in range(max(middle) + 1):
        top, left = np.maximum(middle - ring, 0)
        bottom, right = middle + ring + 1
        found[top:bottom, left:right] += 1 / (ring + 1) ** 2
    return found / np.sqrt((found**2).sum())


@dataclasses.dataclass(frozen=True)
class Square(IterativeAttack):
    """Random patches, kept where they lower the margin.

    Attributes:
        queries: number of patches tried, by which their sides shrink.
        share: of the image that the first patches cover.
        rescale: whether the schedule of sides is shrunk to the queries.
    """

    queries: int = 5000
    share: float = 0.8
    rescale: bool = True

    def initialize(self, model_fn, state, params):
        """At stripes (L-infinity) or tiles of patterns (L2), or where a slice ended."""
        keys = counter_rng.key(params.seed, state["ids"], params.restart, -1)
        clean, shape = state["clean"], state["clean"].shape[1:]
        if self.order == np.inf:
            change = params.eps * counter_rng.signs(keys, (1, *shape[1:]))
        else:
            change = params.eps * geometry.unit(_tiles(keys, shape), 2)
        start = geometry.clip_pixels(clean + change)
        start = tf.where(params.first_step > 0, state["adversarial"], start)
        return state | self._judged(model_fn, start, state["labels"])

    def step(self, model_fn, state, number, params):
        """Tries a patch."""
        at = (params.seed, state["ids"], params.restart, number)
        tried = self._tried(state, counter_rng.key(*at), number, params.eps)
        new = self._judged(model_fn, tried, state["labels"])
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

    def _judged(self, model_fn, images, labels):
        logits = model_fn(images)
        fallen, score = is_misclassified(logits, labels), losses.margin(logits, labels)
        return {"adversarial": images, "misclassified": fallen, "score": score}

    def _tried(self, state, keys, number, eps):
        """Images with one more patch each."""
        clean, best = state["clean"], state["adversarial"]
        height, width, channels = clean.shape[1:]
        by_query = sides(
            height, width, self.queries, self.share, self.order, self.rescale
        )
        side = tf.gather(tf.constant(by_query, tf.int32), number)
        places = counter_rng.uniform(keys, (2, 2))
        signs = counter_rng.signs(counter_rng.key(1, keys), (1, 1, channels))
        inside = _window(places[:, 0], side, height, width)
        if self.order == np.inf:
            tried = best + 2 * eps * signs * inside
            return geometry.project(tried, clean, eps, self.order)

        change = best - clean
        other = _window(places[:, 1], side, height, width)
        both = tf.maximum(inside, other)
        free = tf.maximum(eps**2 - geometry.size(change, 2) ** 2, 0.0) / channels
        norm = tf.sqrt(geometry.per_image(free) + _squares(change * both))
        flips = counter_rng.uniform(counter_rng.key(2, keys), (1,))[:, 0] > 0.5
        new = signs * _patch(places[:, 0], side, by_query, height, width, flips)
        new += _of_norm_one(change * inside)
        new = _of_norm_one(new * inside) * norm
        change = change * (1 - both) + new
        return geometry.clip_pixels(clean + eps * geometry.unit(change, 2))


def _corner(places, side, height, width):
    """Top left pixels of windows, (batch, 1) each, of places in (0, 1)."""
    room = tf.cast(tf.stack([height - side + 1, width - side + 1]), tf.float32)
    corner = tf.cast(places * room, tf.int32)
    return corner[:, :1], corner[:, 1:]


def _window(places, side, height, width):
    """1 inside the windows and 0 outside: (batch, height, width, 1)."""
    top, left = _corner(places, side, height, width)
    rows, columns = tf.range(height)[None], tf.range(width)[None]
    rows = (rows >= top) & (rows < top + side)
    columns = (columns >= left) & (columns < left + side)
    both = rows[:, :, None, None] & columns[:, None, :, None]
    return tf.cast(both, tf.float32)


def _patch(places, side, by_query, height, width, flips):
    """The pattern of the side in its window: (batch, height, width, 1)."""
    kinds = sorted(set(by_query.tolist()))
    table = np.zeros((len(kinds), max(kinds), max(kinds)), np.float32)
    for number, kind in enumerate(kinds):
        table[number, :kind, :kind] = pattern(kind)
    here = tf.tensordot(tf.cast(tf.constant(kinds) == side, tf.float32), table, 1)
    top, left = _corner(places, side, height, width)
    rows = tf.clip_by_value(tf.range(height)[None] - top, 0, max(kinds) - 1)
    columns = tf.clip_by_value(tf.range(width)[None] - left, 0, max(kinds) - 1)

    def placed(values):
        lines = tf.gather(values, rows)
        return tf.gather(lines, columns, axis=2, batch_dims=1)[..., None]

    turned = placed(tf.transpose(here))
    return tf.where(geometry.per_image(flips), turned, placed(here))


def _tiles(keys, shape):
    """Patterns of a fifth of the image side by side, each of a random sign."""
    height, width, channels = shape
    side = max(min(height, width) // 5, 1)
    rows, columns = height // side, width // side
    signs = counter_rng.signs(keys, (rows, columns, channels))
    signs = tf.repeat(tf.repeat(signs, side, axis=1), side, axis=2)
    tiles = np.tile(pattern(side), (rows, columns))[..., None]
    below, right = height - rows * side, width - columns * side
    # Half of what is left over lies on each side.
    edges = [[below // 2, below - below // 2], [right // 2, right - right // 2]]
    return tf.pad(signs * tiles.astype(np.float32), [[0, 0], *edges, [0, 0]])


def _of_norm_one(change):
    """Each channel of each image scaled to norm 1."""
    return change / (tf.sqrt(_squares(change)) + 1e-12)


def _squares(change):
    """The squared norm of each channel: (batch, 1, 1, channels)."""
    return tf.reduce_sum(change**2, axis=(1, 2), keepdims=True)


def square(
    model,
    images,
    labels,
    eps,
    *,
    queries=5000,
    restarts=1,
    share=0.8,
    rescale=True,
    norm="linf",
    seed=0,
    early_stop=False,
    **settings,
):
    """Square attack: random search that uses logits alone and no gradient.

    Args:
        model: as in `fgsm`.
        images: as in `fgsm`.
        labels: as in `fgsm`.
        eps: as in `fgsm`.
        queries: number of patches tried on an image.
        restarts: number of random starts.
        share: of the image that the first patches cover, in (0, 1].
        rescale: whether the published schedule of 10,000 queries is shrunk to
            `queries`, or followed as far as they go, as in AutoAttack.
        norm: as in `fgsm`.
        seed: as in `fgsm`.
        early_stop: as in `fgsm`; without it the margin is lowered further.
        **settings: as in `fgsm`.

    Returns:
        Adversarial pixels, float32, of the shape of `images`: those of lowest margin.

    Raises:
        As `fgsm`.

    Reference:
        Andriushchenko et al.: Square Attack: a Query-efficient Black-box Adversarial
        Attack via Random IterativeAttack, ECCV 2020. Here every image draws its own patches.
    """
    if int(queries) != queries or not 1 <= queries <= 10**6:
        raise ValueError(
            f"`queries` must be from 1 to 10^6. Received: queries={queries}"
        )
    if not 0 < share <= 1:
        raise ValueError(f"`share` must be in (0, 1]. Received: share={share}")
    numbers = (int(queries), float(share), bool(rescale))
    attack = Square(norm_order(norm), *numbers)
    slices = math.ceil(queries / _SLICE)
    runs = [
        one._replace(
            first_step=k * _SLICE, last_step=min((k + 1) * _SLICE, int(queries))
        )
        for one in restart_runs(restarts, last_step=int(queries))
        for k in range(slices)
    ]
    settings |= {"seed": seed, "early_stop": early_stop}
    return run_attack(model, images, labels, eps, attack, runs, **settings)
