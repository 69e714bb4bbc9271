"""A study runs what its file says, once, and goes on where it stopped."""

import json

import pytest
import yaml

from benchmarks.papers import study

BASE = {
    "classifier": {"class_path": "unrolled.classifiers.lenet.LeNet300100"},
    "data": {"source": "drawn-digits", "hold_out": 0.1},
    "training": {"steps": 6, "batch": 10, "learning_rate": 1e-3, "warmup": 0, "average": 0.0, "validations": 2},
}
L0 = {
    "class_path": "unrolled.sparsify.MagnitudePruning",
    "init_args": {"target": 0.8},
}


def written(path, **changes):
    content = {"base": BASE, "runs": {"dense": None, "sparse": {"start": "dense", "sparsifier": L0}}, **changes}
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


@pytest.fixture
def command(tmp_path):
    def run(*more, **changes):
        config = written(tmp_path / "study.yaml", **changes)
        status = study.main([f"--config={config}", f"--folder={tmp_path / 'runs'}", f"--json={tmp_path / 'a'}", *more])
        return status, json.loads((tmp_path / "a").read_text())

    return run


def test_runs_and_what_they_start_from_are_done_once(command, tmp_path, capsys):
    status, found = command("--only", "sparse", "--seeds", "3")
    assert status == 0
    dense, sparse = found["runs"]
    assert (dense["name"], sparse["name"], sparse["seed"]) == ("dense", "sparse", 3)
    assert "sparsity" not in dense
    assert sparse["sparsity"] == pytest.approx(0.8, abs=1e-4)
    assert sparse["compression"] == pytest.approx(5, abs=0.01)
    assert sparse["test"]["error"] > 0
    assert sparse["curves"]["step"] == [3, 6]
    assert sparse["settings"]["weights"] == "best.safetensors"
    assert str(tmp_path) not in json.dumps(found)
    capsys.readouterr()
    assert command("--only", "sparse", "--seeds", "3")[1]["runs"] == found["runs"]
    assert command("--collect")[1]["runs"] == found["runs"]
    assert "==" not in capsys.readouterr().out


def test_a_run_that_fails_is_recorded_and_the_others_go_on(command):
    status, found = command(runs={"broken": {"training": {"learning_rate": -1}}, "dense": None})
    assert status == 1
    assert "learning_rate must be a number > 0" in found["failed"]["broken-0"]
    assert [row["name"] for row in found["runs"]] == ["dense"]


def test_other_settings_do_not_pass_for_those_that_were_run(command):
    command("--only", "dense")
    status, found = command("--only", "dense", base={**BASE, "data": {"source": "drawn-digits", "hold_out": 0.2}})
    assert status == 1
    assert "was finished with other settings" in found["failed"]["dense-0"]


def test_settings_are_merged_and_another_class_takes_none_of_the_arguments_before():
    base = {"a": {"class_path": "X", "init_args": {"n": 1, "m": 2}}, "b": 3}
    same = study.merged(base, {"a": {"init_args": {"n": 5}}})
    assert same == {"a": {"class_path": "X", "init_args": {"n": 5, "m": 2}}, "b": 3}
    assert study.merged(base, {"a": {"class_path": "Y"}})["a"] == {"class_path": "Y"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bse": 1}, "has bse; a study has base, published, runs, seeds"),
        ({"runs": None}, "needs base and runs"),
        ({"runs": {"x": {"start": "y"}}}, "start of x must be a run, got 'y'"),
        ({"runs": {"a/b": None}}, "names of runs are letters"),
    ],
)
def test_what_is_no_study_is_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        study.read(str(written(tmp_path / "study.yaml", **changes)))
