import pytest

from inres_tf.errors import UserError
from inres_tf.evaluation import EvaluationConfig


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": (-1.0,)}, r"--eps must be in \(0, 255\].* got -1"),
        ({"eps": (8.0, 300.0)}, "got 300"),
        ({"eps": ()}, "--eps must hold at least one radius"),
        ({"norm": "l2", "eps": (float("inf"),)}, r"--eps must be in \(0, 1000000000\]"),
        (
            {"attacks": ("pdg",)},
            "--attacks does not know 'pdg'; known: fgsm, ifgsm, pgd",
        ),
        ({"corruptions": ("fogg",)}, "--corruptions: unknown corruption 'fogg'.*fog"),
        ({"corruptions": ("frost",)}, "frost cannot be .* pass a --corruption_source"),
        ({"norm": "l1"}, "--norm must be one of linf, l2; got 'l1'"),
        (
            {"autoattack": ("apgd",)},
            "--autoattack must be one of standard, .* apgd_ce.* got 'apgd'",
        ),
        ({"autoattack": ()}, "--autoattack must name a version"),
        ({"autoattack": ("standard", "fab")}, "--autoattack must .* got 'standard'"),
        ({"queries": 0}, "--queries must be from 1 to 1000000; got 0"),
        (
            {"protocol": "mine"},
            "--protocol must be one of standard, paper; got 'mine'",
        ),
        ({"steps": 0}, "--steps must be from 1 to 1000000; got 0"),
        ({"step_size": -1.0}, "--step_size must be from 0 to 1000000000; got -1"),
        ({"num_examples": -1}, "--num_examples must be at least 0; got -1"),
        ({"certify": "crown"}, "--certify must be one of none, lipschitz, smoothing"),
        ({"certify_radii": (0.0,)}, r"--certify_radii must be in \(0, 1000000000\]"),
        (
            {"certify": "smoothing", "certify_radii": ()},
            "--certify_radii must hold at least one",
        ),
        ({"certify_attack": "pdg"}, "--certify_attack must be one of fgsm, .*pgd"),
        ({"smoothing_sigma": 0.0}, "--smoothing_sigma must be"),
        ({"smoothing_samples": 0}, "--smoothing_samples must be at least 1"),
        ({"smoothing_selection": 0}, "--smoothing_selection must be at least 1"),
        ({"smoothing_alpha": 1.0}, r"--smoothing_alpha must be in \(0, 1\)"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        EvaluationConfig(**change)


def test_defaults_are_those_of_the_papers():
    """In-ResNet's attacks, AutoAttack's budgets, and Cohen et al.'s smoothing."""
    config = EvaluationConfig()
    assert (config.attacks, config.norm) == (("fgsm", "ifgsm", "pgd"), "linf")
    assert config.eps == (1, 2, 4, 8) and config.certify_radii == (36, 72, 108)
    assert (config.steps, config.step_size, config.restarts) == (20, 0, 1)
    assert config.early_stop and config.protocol == "standard"
    assert config.autoattack == ("standard",)
    assert (config.apgd_steps, config.queries) == (100, 5000)
    assert (config.certify_attack, config.smoothing_sigma) == ("pgd", 255 / 4)
    assert (config.smoothing_samples, config.smoothing_selection) == (1000, 100)
    assert config.smoothing_alpha == 0.001
    assert (config.num_examples, config.check_examples, config.seed) == (0, 100, 0)
    assert config.samples == 4


def test_ready_made_sets_may_have_frost():
    config = EvaluationConfig(corruptions=("frost",), corruption_source="folder:here")
    assert config.corruptions == ("frost",)


def test_repetitions_are_dropped():
    config = EvaluationConfig(
        attacks=("pgd", "fgsm", "pgd"), eps=(8.0, 2.0, 8.0), autoattack=("fab", "fab")
    )
    assert (config.attacks, config.eps) == (("pgd", "fgsm"), (8.0, 2.0))
    assert config.autoattack == ("fab",)


def test_radii_are_only_needed_by_attacks_and_certificates():
    assert EvaluationConfig(attacks=(), eps=()).eps == ()
    assert EvaluationConfig(certify_radii=()).certify_radii == ()


def test_step_sizes_depend_on_the_norm():
    assert EvaluationConfig().step_of(8.0) == 1
    assert EvaluationConfig(norm="l2", steps=10).step_of(64.0) == 16
    assert EvaluationConfig(norm="l2", step_size=3.0).step_of(64.0) == 3


@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
def test_a_version_of_autoattack_has_no_members(version):
    config = EvaluationConfig(autoattack=(version,))
    assert (config.version, config.members) == (version, ())


def test_members_make_a_custom_version_of_autoattack():
    config = EvaluationConfig(autoattack=("square", "fab"))
    assert (config.version, config.members) == ("custom", ("square", "fab"))
