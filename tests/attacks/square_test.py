"""Square against its paper: schedule, patches, and which of them are kept."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from inres_tf import attacks
from inres_tf.attacks import counter_rng
from inres_tf.attacks._square import Square, pattern, sides
from inres_tf.attacks.engine import RunParams

SHAPE = (11, 10, 3)


def published_share(query):
    """The share of p at a query of 10,000, which is halved at several queries."""
    halvings = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
    return 0.5 ** sum(query > after for after in halvings)


@pytest.mark.parametrize("size", [32, 100_000])
@pytest.mark.parametrize("queries", [100, 5000, 10_000, 20_000])
@pytest.mark.parametrize("order", [np.inf, 2])
def test_sides_follow_the_published_schedule(size, queries, order):
    for rescale in (True, False):
        by_query = sides(size, size, queries, 0.8, order, rescale)
        assert by_query.shape == (queries,)
        for query in {*range(0, queries, 37), *range(min(queries, 60)), queries - 1}:
            published = query * 10_000 // queries if rescale else query
            side = round(np.sqrt(0.8 * published_share(published)) * size)
            if order == 2:
                side = max(side, 3)
                side += side % 2 == 0  # the next odd one
            assert by_query[query] == max(side, 1)
    # The values of the authors' code for 10,000 queries and images of 32x32 pixels.
    if order == np.inf and queries == 10_000 and size == 32:
        starts = np.flatnonzero(np.diff(by_query)) + 1
        assert list(starts) == [11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001]
        assert sorted(set(by_query)) == [1, 2, 3, 4, 5, 7, 10, 14, 20, 29]


def test_sides_fit_small_and_narrow_images():
    assert sides(4, 9, 10, 1.0, np.inf).max() == 4
    assert set(sides(4, 9, 10, 1.0, 2)) == {3}
    assert set(sides(2, 2, 10, 1.0, 2)) == {1}


def published_pattern(side):
    """Equation (2) of the paper: two halves of opposite sign, each a sum of frames.

    A value is the sum of 1 / k^2 over the frames k, counted from the center, around it.
    """
    result = np.zeros((side, side))
    top = side // 2
    for start, height, sign in ((0, top, 1), (top, side - top, -1)):
        half = np.zeros((height, side))
        for row in range(height):
            for column in range(side):
                away = max(abs(row - height // 2), abs(column - side // 2))
                frames = max(height // 2, side // 2) + 1
                half[row, column] = sum(1 / k**2 for k in range(away + 1, frames + 1))
        if height:
            norm = np.sqrt((half**2).sum())
            result[start : start + height] = sign * half / norm
    return result / np.sqrt((result**2).sum())


@pytest.mark.parametrize("side", [1, 2, 3, 5, 6, 9])
def test_patterns_are_as_published(side):
    np.testing.assert_allclose(pattern(side), published_pattern(side), atol=1e-12)


def smooth_model(images):
    """A smooth black box with two classes."""
    flat = tf.reshape(images, (len(images), -1)) / 255
    waves = tf.sin(7 * flat + tf.range(flat.shape[1], dtype=tf.float32))
    return tf.stack([tf.reduce_sum(waves, 1), 3 * tf.reduce_sum(waves[:, ::3], 1)], 1)


class Run:
    """The batches that a run queries, and the states after each."""

    def __init__(self, order, eps, queries, images):
        self.queries, self.states = [], []
        self.attack = Square(order, queries)
        state = {
            "clean": images,
            "labels": tf.argmax(smooth_model(images), 1),
            "ids": tf.range(len(images), dtype=tf.int64),
            "adversarial": images,
        }

        def model(candidates):
            self.queries.append(candidates.numpy())
            return smooth_model(candidates)

        params = RunParams(eps, 1.0, tf.constant(5, tf.int64), 0, 0, 0, queries)
        state = self.attack.initialize(model, state, params)
        self.states.append(state)
        for query in range(queries):
            state = self.attack.step(model, state, query, params)
            self.states.append(state)


def random_images(number):
    rng = np.random.default_rng(2)
    images = rng.uniform(0, 255, (number, *SHAPE)).astype(np.float32)
    images[0] = np.where(images[0] > 128, 255, 0)
    return tf.constant(images)


def windows(run, query, number):
    """The corners of the two windows drawn for an image, their side and the key."""
    by_query = sides(*SHAPE[:2], len(run.queries) - 1, 0.8, run.attack.order)
    shape, side = np.array(SHAPE[:2]), by_query[query]
    key = counter_rng.key(
        tf.constant(5, tf.int64), tf.constant([number], tf.int64), 0, query
    )
    positions = counter_rng.uniform(key, (2, 2)).numpy()[0]
    corners = np.floor(positions * (shape - side + 1)).astype(int)
    return corners[0], corners[1], side, key


def test_only_a_square_changes_and_only_if_it_is_better():
    eps, queries, images = 9.0, 60, random_images(4)
    run = Run(np.inf, eps, queries, images)
    assert len(run.queries) == queries + 1  # and one for the start
    # Vertical stripes, with a sign for each column and channel.
    stripes = np.clip(images + eps, 0, 255), np.clip(images - eps, 0, 255)
    up = np.isclose(run.queries[0], stripes[0]).all(1)
    down = np.isclose(run.queries[0], stripes[1]).all(1)
    assert (up | down).all() and 0.3 < up.mean() < 0.7
    changed = np.zeros(SHAPE[:2])
    for query in range(queries):
        before, candidates = run.states[query], run.queries[query + 1]
        for number, (new, old) in enumerate(
            zip(candidates, before["adversarial"].numpy())
        ):
            corner, _, side, _ = windows(run, query, number)
            inside = np.zeros(SHAPE[:2], bool)
            inside[corner[0] : corner[0] + side, corner[1] : corner[1] + side] = True
            np.testing.assert_allclose(new[~inside], old[~inside], atol=1e-4)
            changed += inside
            # Within it, each channel moves to one side of the ball.
            clean = images[number].numpy()
            ends = [np.clip(clean + sign * eps, 0, 255) for sign in (-1, 1)]
            for channel in range(3):
                assert any(
                    np.allclose(new[inside][:, channel], end[inside][:, channel])
                    for end in ends
                )
        after = run.states[query + 1]
        kept = (after["adversarial"].numpy() != before["adversarial"].numpy()).any(
            (1, 2, 3)
        )
        margin = smooth_model(tf.constant(candidates)).numpy()
        labels = after["labels"].numpy()
        margin = margin[np.arange(4), 1 - labels] - margin[np.arange(4), labels]
        np.testing.assert_array_equal(
            after["score"], np.maximum(before["score"], margin)
        )
        assert (margin[kept] > before["score"].numpy()[kept]).all()
    scores = np.array([state["score"] for state in run.states])
    assert (np.diff(scores, axis=0) >= 0).all()
    assert (np.diff(scores, axis=0) > 0).any(0).all()
    assert (changed > 0).all()  # also the last rows and columns


def l2_candidate(old, clean, corner, other, side, signs, transposed, eps):
    """Algorithm 3 of the paper for one image; `old` is the best so far."""
    change = (old - clean).astype(np.float64)
    rows, columns = (slice(c, c + side) for c in corner)
    windows = np.zeros((*SHAPE[:2], 1))
    for top, left in (corner, other):
        windows[top : top + side, left : left + side] = 1
    unused = max(eps**2 - (change**2).sum(), 0)
    shape = published_pattern(side)
    shape = shape.T if transposed else shape
    patches = []
    for channel in range(3):
        inside = change[rows, columns, channel]
        new = signs[channel] * shape + inside / (np.linalg.norm(inside) + 1e-12)
        in_both = ((change * windows)[:, :, channel] ** 2).sum()
        length = np.sqrt(in_both + unused / 3)
        patches.append(new / (np.linalg.norm(new) + 1e-12) * length)
    change *= 1 - windows
    change[rows, columns] = np.stack(patches, -1)
    return np.clip(clean + change / np.linalg.norm(change) * eps, 0, 255)


@pytest.mark.parametrize(("height", "width"), [(20, 17), (17, 20), (18, 19)])
def test_tiles_are_in_the_middle_of_the_image(height, width):
    images = tf.fill((2, height, width, 3), 128.0)
    change = Run(2, 50.0, 1, images).queries[0] - images.numpy()
    covered = (change != 0).any(axis=(0, 3))
    covers = [length - length % 3 for length in (height, width)]
    expected = np.zeros((height, width), bool)
    top, left = (height - covers[0]) // 2, (width - covers[1]) // 2
    expected[top : top + covers[0], left : left + covers[1]] = True
    np.testing.assert_array_equal(covered, expected)


def test_l2_candidates_match_the_paper():
    eps, queries, images = 200.0, 40, random_images(4)
    run = Run(2, eps, queries, images)
    change = run.queries[0] - images.numpy()
    norms = np.linalg.norm(change.reshape(4, -1), axis=1)
    assert (norms <= eps * (1 + 1e-5)).all() and (norms > 0.6 * eps).all()
    # Tiles of a fifth of the image, with random signs.
    side = SHAPE[1] // 5
    tile = pattern(side) / np.abs(pattern(side)).max()
    inner = np.sign(change[1:, : 5 * side, : 5 * side])
    for row in range(0, 5 * side, side):
        for column in range(0, 5 * side, side):
            block = inner[:, row : row + side, column : column + side]
            product = block * np.sign(tile)[None, :, :, None]
            assert (product[:, :1, :1] * product >= 0).all()
    orientations = set()
    for query in range(queries):
        for number in range(4):
            corner, other, side, key = windows(run, query, number)
            signs = counter_rng.signs(counter_rng.key(1, key), (3,)).numpy()[0]
            flip = counter_rng.uniform(counter_rng.key(2, key), (1,)).numpy()[0, 0]
            transposed = bool(flip > 0.5)
            orientations.add(transposed)
            old = run.states[query]["adversarial"][number].numpy()
            clean = images[number].numpy()
            expected = l2_candidate(
                old, clean, corner, other, side, signs, transposed, eps
            )
            new = run.queries[query + 1][number]
            np.testing.assert_allclose(new, expected, atol=2e-2, err_msg=str(query))
    assert orientations == {True, False}
    scores = np.array([state["score"] for state in run.states])
    assert (np.diff(scores, axis=0) >= 0).all() and scores[-1].min() > scores[0].min()


@pytest.fixture(scope="module")
def model(dense):
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(48, 9)) / 200, rng.normal(size=9)
    return dense((4, 4, 3), hidden, (rng.normal(size=(9, 5)), np.zeros(5)), spy=True)


def margins(model, images, labels):
    logits = model(images).numpy()
    true_logits = logits[np.arange(len(labels)), labels]
    return np.where(np.eye(5)[labels] > 0, -np.inf, logits).max(1) - true_logits


def test_slices_resume_their_own_restart(model, monkeypatch):
    """The same patches are tried in slices of any length, for every restart."""
    rng = np.random.default_rng(2)
    images = rng.uniform(0, 255, (15, 4, 4, 3)).astype(np.float32)
    labels = model(images).numpy().argmax(-1)
    spy = model.get_layer("spy")
    spy.rows.clear()
    settings = {"queries": 24, "restarts": 2}
    expected = attacks.square(model, images, labels, 4.0, **settings)
    assert spy.rows == [15] * 2 * (24 + 1)
    monkeypatch.setattr(sys.modules[Square.__module__], "_SLICE", 10)
    traces = len(spy.traces)
    sliced = attacks.square(model, images, labels, 4.0, **settings)
    assert len(spy.traces) == traces
    np.testing.assert_array_equal(sliced, expected)
    single = attacks.square(model, images, labels, 4.0, queries=24)
    gained = margins(model, sliced, labels) - margins(model, single, labels)
    assert gained.min() > -1e-4 and 0 < (gained > 1e-3).sum() < 15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": 0}, "`queries` must be from 1 to 10^6. Received: queries=0"),
        ({"queries": 2.5}, "Received: queries=2.5"),
        ({"share": 0}, "`share` must be in (0, 1]. Received: share=0"),
        ({"share": 1.5}, "Received: share=1.5"),
        ({"restarts": 0}, "positive integer. Received: restarts=0"),
        ({"restarts": 1.5}, "Received: restarts=1.5"),
    ],
)
def test_invalid_arguments(change, message, model):
    with pytest.raises(ValueError) as caught:
        attacks.square(model, np.zeros((1, 4, 4, 3)), [0], 8, **change)
    assert message in str(caught.value)
