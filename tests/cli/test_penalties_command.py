"""unrolled penalties, as a user types it."""

import csv
import sys

import pytest

from unrolled.cli import main
from unrolled.penalties import L0, MCP
from unrolled.penalties.names import penalty_classes


def errors(capsys, *argv) -> str:
    assert main(["penalties", *argv]) == 1
    return capsys.readouterr().err


def labels(path):
    with path.open(newline="") as file:
        return {line["penalty"] for line in csv.DictReader(file)}


def test_without_arguments_all_penalties_are_listed(capsys):
    assert main(["penalties"]) == 0
    printed = capsys.readouterr().out
    for name, cls in penalty_classes().items():
        assert f"\n{name}" in f"\n{printed}"
        assert cls.formulas.value in printed
        assert cls.formulas.source in printed


def test_names_and_parameters_make_one_picture(tmp_path, capsys):
    argv = ["penalties", "LogSum", "MCP(gamma=1, b=3)", "--out", str(tmp_path), "--strength", "0.5", "--reach", "3"]
    assert main(argv) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"LogSum-MCP.png", "LogSum-MCP.csv"}
    assert labels(tmp_path / "LogSum-MCP.csv") == {"LogSum(epsilon=1)", "MCP(gamma=1, b=3)"}
    assert "LogSum-MCP.png" in capsys.readouterr().out


def test_all_makes_a_picture_each_an_overview_and_a_page(tmp_path, monkeypatch):
    two = {"L0": L0(), "MCP": MCP()}
    monkeypatch.setattr("unrolled.cli.penalties.drawable_penalties", lambda: two)
    page = tmp_path / "page.md"
    assert main(["penalties", "--all", "--out", str(tmp_path / "figures"), "--page", str(page)]) == 0
    names = {"L0.png", "L0.csv", "MCP.png", "MCP.csv", "overview.png"}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names
    assert "(figures/MCP.png)" in page.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("default:pictures need")
def test_without_matplotlib_the_curves_are_written_and_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "unrolled.figures.penalty_plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    assert main(["penalties", "L1", "--out", str(tmp_path)]) == 0
    assert "pip install 'unrolled[plots]'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["L1.csv"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["Lasso"], "unknown penalty 'Lasso'; known: "),
        (["MCP(b=-1)"], "b must be a finite number > 0, got -1"),
        (["MCP(b="], "not a penalty: 'MCP(b='"),
        (["L1", "--strength", "0"], "strength must be a finite number > 0, got 0"),
        (["L1", "--reach", "-2"], "reach must be a finite number > 0, got -2"),
        (["TopK(k=2)"], "TopK(k=2) cannot be drawn: it does not act on single numbers"),
        (["L1", "--all"], "leave out L1, or --all"),
        (["L1", "--page", "x.md"], "add --all"),
    ],
)
def test_wrong_words_are_refused(argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert message in errors(capsys, *argv)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "cannot write" in errors(capsys, "L1", "--out", str(tmp_path / "file"))
