import numpy as np
import pytest

from inres_tf import analysis
from inres_tf.analysis import figures


def lines(ax):
    return [line.get_ydata() for line in ax.get_lines()]


def heights(ax):
    return [bar.get_height() for bar in ax.patches]


def test_lyapunov_plots_growth_exponents_and_rates(damped, few):
    result = analysis.lyapunov(damped, *few, 4, rates=(1.0,), steps=1, iterations=5)
    axes = figures.lyapunov(result).axes
    for ax, growth in zip(axes, (result.growth_random, result.growth_pgd)):
        median = np.median(growth / growth[..., :1], axis=1)
        np.testing.assert_allclose(lines(ax), median)
    labels = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert labels == ["λ as trained", "λ = 1"]
    np.testing.assert_allclose(lines(axes[2])[:2], result.exponents.mean(1))
    np.testing.assert_array_equal(lines(axes[3]), result.rates)


def test_lipschitz_plots_histograms_and_blocks(damped, few):
    result = analysis.lipschitz(damped, *few, iterations=5)
    histogram, by_block = figures.lipschitz(result).axes
    counts = [sum(bar.get_height() for bar in bars) for bars in histogram.containers]
    assert counts == [5, 5]
    np.testing.assert_allclose(lines(by_block)[0], np.median(result.blocks, axis=0))


def test_landscape_plots_the_attack_direction_along_x(damped, few):
    result = analysis.landscape(damped, *few, 4, grid=3)
    figure = figures.landscape(result)
    surface = next(ax for ax in figure.axes if ax.name == "3d")
    assert surface.get_xlabel() == "sign of the gradient (1/255)"
    (mesh,) = surface.collections
    corners = mesh._vec[:3] if hasattr(mesh, "_vec") else mesh._faces.reshape(-1, 3).T
    assert corners[2].max() == pytest.approx(result.mean_loss.max(), rel=1e-4)
    x = corners[0][corners[2].argmax()]
    highest = np.unravel_index(result.mean_loss.argmax(), (3, 3))
    assert x == pytest.approx(result.steps[highest[0]])


def test_gradients_plots_histograms_of_the_norms(damped, few):
    result = analysis.gradient_norms(damped, *few)
    axes = figures.gradients(result).axes
    assert [sum(heights(ax)) for ax in axes] == [5] * 4
    for ax, norms in zip(axes, (result.l1, result.l2, result.linf)):
        smallest = min(bar.get_x() for bar in ax.patches)
        assert smallest == pytest.approx(norms.min(), rel=1e-4)


def test_calibration_plots_the_bins(trained, digits):
    few = digits.test.take(slice(60))
    result = analysis.corrupted_calibration(
        trained, few.images, few.labels, corruptions=("shot_noise",), severity=3, bins=8
    )
    figure = figures.calibration(result)
    clean, noisy, by_severity = figure.axes
    # The legend lies below the panels, not on them.
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["shot_noise"]
    assert not any(ax.get_legend() for ax in figure.axes)
    np.testing.assert_allclose(heights(clean), result.clean.accuracy_by_bin)
    bins = result.corrupted["shot_noise", 3].accuracy_by_bin
    np.testing.assert_allclose(lines(noisy)[1], bins[~np.isnan(bins)])
    sets = [result.clean, *result.corrupted.values()]
    accuracy, confidence = lines(by_severity)
    np.testing.assert_allclose(accuracy, [100 * c.accuracy for c in sets])
    np.testing.assert_allclose(confidence, [100 * c.confidence for c in sets])
