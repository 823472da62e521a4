"""The example compares two spaces at equal cost; its networks learn, and on shuffled labels they do not."""

import ch08_design_space as example
import numpy as np
import pytest

from jaxdl.vision.design_space import multiply_adds


def run(tmp_path, monkeypatch, **fields):
    monkeypatch.chdir(tmp_path)
    fields = {"networks": 1, "epochs": 4, "batch_size": 32, "train_split": "train[:768]", **fields}
    return example.main(example.Config(**fields))


def test_it_compares_leaves_its_record_and_resumes(tmp_path, monkeypatch, capsys):
    fields = {"plot": tmp_path / "new" / "spaces.png", "checkpoint_dir": tmp_path / "ck", "log_dir": tmp_path / "logs"}
    figures = run(tmp_path, monkeypatch, **fields)
    assert {*figures} == {f"{space}_{figure}" for space in example.SPACES for figure in ("mean_error", "least_error")}
    assert figures["growing_mean_error"] < 0.5  # chance is 0.9
    assert fields["plot"].stat().st_size > 10_000
    (folder,) = (tmp_path / "runs").iterdir()
    for name in ("any_00", "growing_00"):
        assert (folder / name / "history.csv").exists()
        assert (tmp_path / "ck" / name / "96").is_dir()
        assert list((tmp_path / "logs" / name).iterdir())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["network", "any_00", "growing_00", "picture:"]
    assert lines[2].endswith(f"{figures['growing_mean_error']:.3f}")

    assert run(tmp_path, monkeypatch, resume=True, **fields) == figures  # nothing is left to train


def test_shuffled_labels_teach_nothing(tmp_path, monkeypatch):
    def shuffled(name, split):
        arrays = original(name, split)
        if split.startswith("train"):
            arrays["label"] = np.random.default_rng(0).permutation(arrays["label"])
        return arrays

    original = example.images_and_labels
    monkeypatch.setattr(example, "images_and_labels", shuffled)
    monkeypatch.setattr(example, "SPACES", {"growing": example.SPACES["growing"]})
    assert run(tmp_path, monkeypatch)["growing_mean_error"] > 0.7


def test_what_is_drawn_keeps_the_rules_and_the_cost():
    arrays = {"image": np.zeros((2, 32, 32, 3)), "label": np.array([0, 6])}
    config = example.Config(strategy="pmap", precision="bfloat16")
    rng = np.random.default_rng(0)
    for name in example.SPACES:
        for _ in range(20):
            model = example.draw(rng, example.SPACES[name], arrays, config)
            assert 0.2e6 <= multiply_adds(model, 32, 3) <= 0.5e6
            assert (model.num_classes, model.axis_name, model.dtype) == (7, "data", "bfloat16")
            if name == "growing":
                assert [*model.depths] == sorted(model.depths)
                assert [*model.widths] == sorted(model.widths)
                assert len({*model.bottlenecks}) == 1
    with pytest.raises(ValueError, match="cost: none of 10,000 networks needs 0 to 0 million"):
        example.draw(rng, example.ANY, arrays, example.Config(cost=(0, 0)))
    with pytest.raises(ValueError, match="networks: expected at least 1, got 0"):
        example.Config(networks=0)
