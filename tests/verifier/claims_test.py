"""Claims of result files: what is proved passes, what is not is named."""

import base64

import numpy as np
import pytest

from inres_tf import verifier
from inres_tf.errors import UserError

PROVED = [50.0, 40.0, -1.0, 30.0]
REPORT = {"radii": PROVED}


def result(radii, /, **changes):
    """The result that an evaluation with these certified radii writes."""
    radii = np.array(radii)
    entry = {
        "method": "lipschitz",
        "radii": {f"{r:g}": float((radii >= r).mean()) for r in (36, 45)},
        "curve": [[r, float((radii >= r).mean())] for r in (0.0, 30.0, 60.0)],
        "image_radii": base64.b64encode(radii.astype("<f4").tobytes()).decode(),
    }
    certificates = {"certificates": entry | changes}
    return {"num_examples": len(radii), "fingerprint": "abc"} | certificates


def check(radii, /, **changes):
    verifier.claims_of(result(radii, **changes), "r.json").check(REPORT)


@pytest.mark.parametrize(
    "radii", [PROVED, [1.0, 1.0, -1.0, 1.0], [-1.0] * 4, [50.04, 40.03, -1.0, 30.02]]
)
def test_what_is_proved_passes(radii):
    check(radii)


@pytest.mark.parametrize(
    ("radii", "message"),
    [
        ([50, 45, -1, 30], "2 of 4 images .* radius 45/255, but only 1 can be proved"),
        ([50, 40, -1, 37], "3 of 4 images .* radius 36/255, but only 2 can be proved"),
        ([50, 40, 0, 30], "4 of 4 images .* radius 0/255, but only 3 can be proved"),
        ([70, 40, -1, 30], "1 of 4 images .* radius 60/255, but only 0 can be proved"),
        ([50, 40, -1, 33], "radius 33/255 for image 3, but only 30/255 can be proved"),
        ([50.1, 40, -1, 30], "radius 50.1/255 for image 0, but only 50/255 can be"),
        ([np.nan, 40, -1, 30], "radius nan/255 for image 0"),
    ],
)
def test_what_is_not_proved_is_named(radii, message):
    with pytest.raises(UserError, match=f"r.json claims .*{message}"):
        check(radii)


def test_accuracies_that_the_radii_do_not_show():
    """The table may be wrong where the radii are right."""
    with pytest.raises(UserError, match="3 of 4 images are certified at radius 36/255"):
        check(PROVED, radii={"36": 0.75})
    with pytest.raises(UserError, match="nan of 4"):
        check(PROVED, radii={"36": float("nan")})


@pytest.mark.parametrize("other", [{}, {"certificates": []}, {"certificates": None}])
def test_results_without_certificates(other):
    with pytest.raises(UserError, match="r.json has no Lipschitz certificates"):
        verifier.claims_of(other, "r.json")
    with pytest.raises(UserError, match="--certify=lipschitz"):
        verifier.claims_of(result(PROVED, method="smoothing"), "r.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"image_radii": "%"},
        {"image_radii": "AAAA"},
        {"image_radii": base64.b64encode(bytes(8)).decode()},
        {"image_radii": None},
        {"radii": [0.5]},
        {"radii": {"x": 0.5}},
    ],
)
def test_damaged_certificates(changes):
    with pytest.raises(UserError, match=r"certificates of r.json are damaged: \S"):
        verifier.claims_of(result(PROVED, **changes), "r.json")
