import keras
import numpy as np
import pytest
from keras import layers

import zoo
from inres_tf import analysis, attacks
from inres_tf.analysis._lyapunov import through_blocks
from inres_tf.errors import UserError
from inres_tf.layers import damped_layers, damping_rates, tighten


@pytest.mark.parametrize("damping", ["in", "lambda_in", "exponential"])
def test_growth_and_exponents_of_linear_blocks_match_their_matrices(
    linear_blocks, random_data, flat, damping
):
    linear, rates = linear_blocks(damping), (0.0, 0.5, 1.5)
    trained = damping_rates(linear.model)["damped"]
    result = analysis.lyapunov(
        linear.model,
        *random_data,
        4,
        rates=rates,
        steps=2,
        iterations=500,
        tolerance=1e-7,
    )
    assert result.names == ("damped", "projected") and result.converged.all()
    np.testing.assert_array_equal(result.settings, [np.nan, *rates])
    for i, rate in enumerate((trained, *rates)):
        assert result.rates[i, 0] == pytest.approx(rate, abs=1e-6)
        assert np.isnan(result.rates[i, 1])
        for j, block in enumerate(linear.blocks(rate)):
            exponent = np.log(np.linalg.norm(block, 2))
            np.testing.assert_allclose(result.exponents[i, :, j], exponent, atol=1e-3)
    # Perturbed pixels stay within [0, 255], so that nothing is clipped.
    signs = np.random.default_rng([0, 2]).choice([-4.0, 4.0], random_data[0].shape)
    for i, rate in enumerate((trained, *rates)):
        difference = signs @ linear.stem
        norms = [np.linalg.norm(flat(difference), axis=1)]
        for block in linear.blocks(rate):
            difference = difference @ block
            norms.append(np.linalg.norm(flat(difference), axis=1))
        expected = np.stack(norms, 1) / np.linalg.norm(flat(signs), axis=1)[:, None]
        np.testing.assert_allclose(result.growth_random[i], expected, rtol=2e-4)


def test_growth_through_linear_blocks_is_bounded_by_their_exponents(
    linear_blocks, random_data
):
    model = linear_blocks().model
    result = analysis.lyapunov(model, *random_data, 8, iterations=500, tolerance=1e-7)
    for growth in (result.growth_random[0], result.growth_pgd[0]):
        bound = np.exp(np.cumsum(result.exponents[0], axis=1))
        assert (through_blocks(growth)[:, 1:] <= bound * (1 + 1e-4)).all()
    assert not np.allclose(result.growth_random, result.growth_pgd, rtol=1e-3)


def test_rates_are_restored_even_after_an_error(
    linear_blocks, random_data, monkeypatch
):
    model = linear_blocks("lambda_in").model
    before = damped_layers(model)[0][1].k.numpy()
    settings = {"rates": (0.7,), "steps": 1, "iterations": 2}
    analysis.lyapunov(model, *random_data, 4, **settings)
    assert damped_layers(model)[0][1].k.numpy() == before
    rates = []

    def pgd(model, images, *args, **kwargs):
        rates.append(damping_rates(model)["damped"])
        if len(rates) == 2:
            raise RuntimeError("no memory")
        return images + 1

    monkeypatch.setattr(attacks, "pgd", pgd)
    with pytest.raises(RuntimeError):
        analysis.lyapunov(model, *random_data, 4, **settings)
    assert rates[1:] == pytest.approx([0.7])
    assert damped_layers(model)[0][1].k.numpy() == before


def test_models_without_blocks_are_rejected(few):
    shape = few[0].shape[1:]
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(10)])
    with pytest.raises(UserError, match=r"has no residual block.*--nolyapunov"):
        analysis.lyapunov(model, *few, 4)
    with pytest.raises(UserError, match="has no residual block"):
        analysis.growth(model, few[0], few[0] / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 256}, "eps"),
        ({"eps": 4, "rates": (-1.0,)}, "rate"),
        ({"eps": 4, "iterations": 0}, "iterations"),
    ],
)
def test_settings_out_of_range_are_rejected(damped, few, options, message):
    with pytest.raises(ValueError, match=message):
        analysis.lyapunov(damped, *few, **options)


def test_growth_needs_images_of_the_same_shape(damped, few):
    images, _ = few
    with pytest.raises(ValueError, match="shape of `images`"):
        analysis.growth(damped, images, images[:2])


@pytest.mark.parametrize("name", ["damped_cpl_tiny", "damped_node_tiny"])
def test_exponents_of_blocks_that_are_layers_keep_to_their_bounds(name, few):
    keras.utils.set_random_seed(0)
    model = zoo.get_model(name, input_shape=(8, 8, 1))
    tighten(model)
    names = list(damping_rates(model))
    result = analysis.lyapunov(model, *few, 4, rates=(0.6,), steps=2, iterations=30)
    undamped = ("head_block",) if name == "damped_cpl_tiny" else ()
    assert result.names == (*names, *undamped)
    np.testing.assert_allclose(result.rates[1, : len(names)], 0.6, rtol=1e-6)
    for i, rate in enumerate((None, 0.6)):
        with analysis.damped_at(model, rate):
            bounds = [np.log(model.get_layer(n).lipschitz_bound()) for n in names]
        exponents = result.exponents[i, :, : len(names)].max(0)
        assert (exponents <= np.array(bounds) + 1e-4).all()
    assert result.exponents[1].mean() < result.exponents[0].mean()
