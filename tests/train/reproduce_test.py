import json

import pytest

from inres_tf.errors import UserError


def test_evaluates_with_the_batch_size_of_the_training(binary, monkeypatch, tmp_path):
    def stop(config, train_config, evaluation_config, *_):
        assert evaluation_config.batch_size == train_config.batch_size == 128
        raise UserError("stopped")

    monkeypatch.setattr("inres_tf.reproduce.reproduce", stop)
    code, _, err = binary("reproduce", "--models=plain8", f"--output_dir={tmp_path}/x")
    assert (code, err) == (1, "train.reproduce: stopped\n")


def test_ends_with_a_short_table_and_the_paths(
    binary, monkeypatch, tmp_path, result_of
):
    for name in ("plain8", "resnet8"):
        result_of(tmp_path / "x" / f"{name}-seed0", model=name)
    monkeypatch.setattr(
        "inres_tf.reproduce.reproduce", lambda *_: tmp_path / "x" / "report.html"
    )
    code, out, _ = binary(
        "reproduce", "--models=resnet8,plain8", f"--output_dir={tmp_path}/x"
    )
    lines = out.strip().splitlines()
    assert code == 0 and len(lines) < 12
    assert [line.split()[1] for line in lines[4:6]] == ["resnet8", "plain8"]
    assert lines[-2:] == [
        f"tables: {tmp_path}/x/results.md",
        f"report: {tmp_path}/x/report.html",
    ]


@pytest.mark.long
def test_networks_of_continuous_depth_beside_residual_ones(binary, tmp_path):
    """One command trains, certifies and compares the four kinds."""
    names = ["resnet20", "in_resnet20", "lip_node_small", "damped_node_small"]
    code, out, err = binary(
        "reproduce",
        f"--models={','.join(names)}",
        "--dataset=digits",
        "--epochs=2",
        "--batch_size=64",
        "--learning_rate=0.05",
        "--num_examples=60",
        "--check_examples=10",
        "--attacks=fgsm",
        "--eps=8",
        "--corruptions=shot_noise",
        "--certify=lipschitz",
        f"--output_dir={tmp_path}/x",
    )
    assert code == 0, err
    for name in names:
        assert f"| {name} " in out
        run = tmp_path / "x" / f"{name}-seed0"
        result = json.loads((run / "evaluation.json").read_text())
        entry = result["certificates"]
        for radius, certified in entry["radii"].items():
            attacked = entry["attacked"][radius]
            assert certified <= attacked <= result["clean"]["accuracy"]
        bounded = entry["bound"]["features"] < 1
        assert bounded == (name in ("lip_node_small", "damped_node_small"))
        code, _, err = binary("export", f"--checkpoint={run}", f"--output={run}/served")
        assert code == 0, err


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [("0-2", (0, 1, 2)), ("7, 3-4", (7, 3, 4)), ("5-5", (5,)), ("1", (1,))],
)
def test_seeds_may_be_a_range(seeds, expected, binary, monkeypatch):
    found = []
    monkeypatch.setattr(
        "inres_tf.reproduce.reproduce", lambda config, *_: found.append(config) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        binary("reproduce", f"--seeds={seeds}")
    assert found[0].seeds == expected


@pytest.mark.parametrize("seeds", ["2-0", "0-1000", "0-99999999999"])
def test_ranges_of_seeds_go_up_and_end(seeds, binary):
    code, _, err = binary("reproduce", f"--seeds={seeds}")
    assert code == 1 and "a range must go up, by at most 1000 numbers" in err


def test_misspelt_models_name_the_flag(binary, tmp_path):
    code, _, err = binary("reproduce", "--models=resnet8,InResNet20")
    assert code == 1 and "--models must name" in err and "mean 'in_resnet20'" in err
