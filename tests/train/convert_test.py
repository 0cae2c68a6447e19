import pathlib

import numpy as np
import pytest

import zoo

DATA = pathlib.Path(__file__).parents[1] / "data"


def test_convert(binary, tmp_path):
    torch = pytest.importorskip("torch")
    golden = dict(np.load(DATA / "official_in_resnet20.npz"))
    state = {
        k.removeprefix("state/"): torch.from_numpy(np.array(v))
        for k, v in golden.items()
        if k.startswith("state/")
    }
    torch.save(state, tmp_path / "state.pt")
    output = tmp_path / "converted.keras"
    arguments = [f"--official_checkpoint={tmp_path / 'state.pt'}", f"--output={output}"]
    code, out, _ = binary("convert", *arguments, "--model=in_resnet20")
    assert code == 0 and str(output) in out
    model = zoo.InResNet20(weights=output, include_preprocessing=True)
    kernel = model.get_layer("stem_conv").kernel.numpy()
    np.testing.assert_array_equal(
        kernel.transpose(3, 2, 0, 1), golden["state/conv1.weight"]
    )
    code, _, err = binary("convert", *arguments, "--model=resnet20")
    assert code == 1 and "unknown: ks.0" in err
