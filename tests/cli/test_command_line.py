"""Options come from the signature and the docstring of a function."""

import sys

import pytest

from unrolled.cli.command_line import Flag, import_modules, parser_for, run


def act(
    names: list[str],
    other: str | None = None,
    /,
    *,
    out: str,
    loud_voice: Flag = False,
    size: tuple[int, int] | None = None,
    rates: list[float] = [0.5],  # noqa: B006
) -> int:
    """Act on names.

    And on others.

    Parameters
    ----------
    names : list of str
        whom to act on.
    other : str, optional
        another one.
    out : str
        where to write.
    loud_voice : bool
        so that all hear.
    size : (int, int), optional
    rates : list of float
        how fast.
    """
    print(names, other, out, loud_voice, size, rates)
    return 3


def one(name: str | None = None, /, *, steps: int = 2) -> None:
    """Show one."""
    print(name, steps)


def test_a_function_is_called_with_what_is_said_or_its_defaults(capsys):
    assert run("act", act, ["a", "b", "--out=x"]) == 3
    assert capsys.readouterr().out == "['a', 'b'] None x False None [0.5]\n"
    assert run("act", act, ["--loud-voice", "a", "--size=[3,4]", "--rates", "[1, .2]", "--out", "x"]) == 3
    assert capsys.readouterr().out == "['a'] None x True (3, 4) [1.0, 0.2]\n"
    assert run("one", one, []) == 0
    assert run("one", one, ["me", "--steps=3"]) == 0
    assert capsys.readouterr().out == "None 2\nme 3\n"


def test_the_docstring_is_the_help(capsys):
    text = " ".join(parser_for("act", act).format_help().split())
    assert "unrolled act" in text
    for part in ("Act on names. And on others.", "whom to act on", "another one", "where to write", "so that all hear"):
        assert part in text
    assert "Parameters" not in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "error: the following arguments are required: name"),
        (["a"], "error: the following arguments are required: out"),
        (["a", "--out=x", "--size=3"], "error: Parser key \"size\": Expected a <class 'tuple'>. Got value: 3"),
        (["a", "--out=x", "--size=[3,x]"], "error: Parser key \"size\": Expected a <class 'int'>. Got value: x"),
        (["a", "--out=x", "--loud"], "error: unrecognized arguments: --loud"),  # nothing is abbreviated
    ],
)
def test_a_mistake_is_a_line(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        run("act", act, argv)
    assert stop.value.code == 2
    *before, last = capsys.readouterr().err.splitlines()
    assert last.startswith(message)
    assert not any("rror" in line for line in before)


def test_modules_are_imported_from_the_working_folder_before_anything_is_parsed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    for name, text in (("first_of_mine", "print('first')"), ("second_of_mine", "print('second')")):
        (tmp_path / f"{name}.py").write_text(text)
    argv = ["--steps=3", "--import", "first_of_mine", "me", "--import=second_of_mine"]
    assert import_modules(parser_for("one", one), argv) == ["--steps=3", "me"]
    assert capsys.readouterr().out == "first\nsecond\n"
    assert "--import MODULE" not in parser_for("one", one).format_help()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "ModuleNotFoundError: No module named 'broken_of_mine'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError: "),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(text, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    if text is not None:
        (tmp_path / "broken_of_mine.py").write_text(text)
    with pytest.raises(ValueError, match=f"import: broken_of_mine cannot be imported: {reason}"):
        import_modules(parser_for("one", one), ["--import=broken_of_mine"])
