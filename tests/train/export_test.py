"""The SavedModel of a trained model, by the program."""


def test_an_existing_model_is_replaced_only_if_asked(binary, saved, tmp_path):
    flags = (f"--checkpoint={saved}", f"--output={tmp_path / 'served'}")
    assert binary("export", *flags)[0] == 0
    (tmp_path / "served" / "mine").write_text("")
    code, _, err = binary("export", *flags)
    assert code == 1 and "pass --overwrite" in err
    assert (tmp_path / "served" / "mine").exists()
    assert binary("export", *flags, "--overwrite")[0] == 0
    assert not (tmp_path / "served" / "mine").exists()
