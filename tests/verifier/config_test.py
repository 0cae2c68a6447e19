import pytest

from inres_tf.errors import UserError
from inres_tf.verifier import VerifierConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_examples": -1}, "--num_examples must be at least 0; got -1"),
        ({"radii": (36.0, 0.0)}, "--radii must be in"),
    ],
)
def test_values_out_of_range(settings, message):
    with pytest.raises(UserError, match=message):
        VerifierConfig(**settings)
