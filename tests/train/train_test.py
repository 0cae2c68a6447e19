import json
import signal
import time

from inres_tf.training import checkpoints


def test_train_evaluate_export(binary, tmp_path):
    run = tmp_path / "run"
    flags_ = [
        "--model=in_resnet8",
        "--epochs=3",
        "--batch_size=64",
        f"--output_dir={run}",
    ]
    code, out, _ = binary("train", *flags_)
    assert code == 0 and f"-> {run / 'model.keras'}" in out and "epoch 3/3" in out

    result = tmp_path / "deep" / "result.json"
    code, out, _ = binary(
        "evaluate",
        f"--checkpoint={run}",
        "--eps=8,64",
        "--attacks=fgsm,pgd",
        "--steps=3",
        "--step_size=20",
        "--corruptions=shot_noise",
        "--num_examples=30",
        f"--output={result}",
    )
    assert code == 0 and "in_resnet8 on digits: 30 images, standard protocol" in out
    evaluation = json.loads(result.read_text())
    assert evaluation.keys() >= {
        "model",
        "dataset",
        "num_examples",
        "protocol",
        "clean",
        "corruptions",
        "attacks",
    }
    assert (evaluation["model"], evaluation["dataset"]) == ("in_resnet8", "digits")
    assert list(evaluation["corruptions"]) == ["shot_noise"]
    assert [
        (a["name"], a["eps"], a["steps"], a["step_size"]) for a in evaluation["attacks"]
    ] == [
        ("fgsm", 8.0, 1, 8.0),
        ("fgsm", 64.0, 1, 64.0),
        ("pgd", 8.0, 3, 20.0),
        ("pgd", 64.0, 3, 20.0),
    ]

    code, out, _ = binary("evaluate", f"--checkpoint={run}", "--attacks=none")
    assert code == 0 and "attack" not in out

    served = tmp_path / "served"
    code, out, _ = binary("export", f"--checkpoint={run}", f"--output={served}")
    assert (code, out.strip()) == (0, str(served))
    assert (served / "saved_model.pb").is_file()


def test_ctrl_c_writes_a_checkpoint(process, tmp_path):
    folder = tmp_path / "run"
    arguments = ["--model=in_resnet8", "--epochs=500", "--batch_size=64", "--verbose=0"]
    run = process("train.train", *arguments, f"--output_dir={folder}")
    deadline = time.time() + 600
    while not checkpoints.list_checkpoints(folder / "checkpoints"):
        assert run.poll() is None and time.time() < deadline, run.communicate()
        time.sleep(0.2)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=600)
    assert run.returncode == 130, err
    assert "interrupted: " in err and "the same command" in err
    assert out == "" and len(err.splitlines()) == 1
    newest = checkpoints.list_checkpoints(folder / "checkpoints")[-1]
    assert str(newest) in err
    _, state = checkpoints.restore(newest)
    assert state["epoch"] == len(state["history"]) >= 1
