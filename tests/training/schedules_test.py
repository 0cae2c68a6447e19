import numpy as np
import pytest

from inres_tf.errors import UserError
from inres_tf.training import schedules
from inres_tf.training.schedules import LambdaSchedule


def test_step_schedule_divides_the_rate_after_half_and_three_quarters():
    schedule = schedules.learning_rate("step", 0.1, 160 * 390)
    steps = [80 * 390 - 1, 80 * 390, 120 * 390 - 1, 120 * 390, 160 * 390]
    rates = [float(schedule(step)) for step in steps]
    assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001, 0.001])


def test_cosine_schedule_warms_up_and_decays_to_zero():
    cosine = schedules.learning_rate("cosine", 0.4, 100, warmup=0.2)
    rates = [float(cosine(step)) for step in (0, 10, 20, 60, 100)]
    np.testing.assert_allclose(rates, [0, 0.2, 0.4, 0.2, 0], atol=1e-6)
    assert float(schedules.learning_rate("cosine", 0.4, 100)(0)) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("text", "steps", "expected"),
    [
        ("learn", (0, 10), [None, None]),
        ("fixed:0.3", (0, 10), [0.3, 0.3]),
        ("linear:0:0.2", (0, 5, 10), pytest.approx([0, 0.1, 0.2])),
        ("warm:0.5", (0, 5, 6, 10), [0.0, 0.0, None, None]),
    ],
)
def test_lambda_schedule_by_step(text, steps, expected):
    schedule = LambdaSchedule(text, 11)
    assert [schedule.at(step) for step in steps] == expected


def test_lambda_schedule_tells_for_how_long_lambda_is_constant():
    warm = LambdaSchedule("warm:0.5", 11)
    assert [warm.constant_for(step) for step in (0, 5)] == [6, 1]
    assert warm.constant_for(6) > 10**6
    assert LambdaSchedule("linear:0:1", 9).constant_for(3) == 1


@pytest.mark.parametrize(
    "text", ["linear", "fixed", "fixed:-1", "warm:1.5", "learn:1", "fixed:nan", ""]
)
def test_invalid_lambda_schedules_are_rejected(text):
    with pytest.raises(UserError, match="--lambda_schedule"):
        LambdaSchedule(text)
