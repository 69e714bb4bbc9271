"""The examples of the documentation run and print what the pages say, and its commands are understood."""

import doctest
import re
import shlex
from pathlib import Path

import pytest
import torch

from unrolled.cli import COMMANDS, main

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [path for path in sorted(DOCS.glob("*.md")) if ">>> " in path.read_text(encoding="utf-8")]
COMMAND = re.compile(
    rf"^ *(?:unrolled (?P<command>(?:{'|'.join(COMMANDS)})\b[^`\n]*)|[^`\n]*\btrain\.py (?P<config>--config [^`\n]*))$",
    re.MULTILINE,
)


@pytest.fixture
def types_and_numbers():
    """The default type, and the state of random numbers, as they were."""
    kind, state = torch.get_default_dtype(), torch.get_rng_state()
    yield
    torch.set_default_dtype(kind)
    torch.set_rng_state(state)


@pytest.mark.filterwarnings("ignore:operator. weights will not say how to make it:UserWarning")  # as the page says
@pytest.mark.parametrize(
    "page",
    # To translate a network for another runtime takes long; tests of the same keep `make test` from missing it.
    [pytest.param(page, marks=[pytest.mark.full] * (page.name == "export.md"), id=page.name) for page in PAGES],
)
def test_examples(page, tmp_path, monkeypatch, types_and_numbers):
    monkeypatch.chdir(tmp_path)
    examples = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
    test = doctest.DocTestParser().get_doctest(examples, {}, page.name, str(page), 0)
    assert len(test.examples) >= 10
    report: list[str] = []
    assert doctest.DocTestRunner(verbose=False).run(test, out=report.append).failed == 0, "".join(report)


def commands(page: Path) -> list[list[str]]:
    """The command lines of a page that stand alone in a line, without those of a module of the reader's own."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = [line["command"] or f"train {line['config']}" for line in COMMAND.finditer(text)]
    return [shlex.split(line, comments=True) for line in found if "mymodule" not in line]


@pytest.mark.parametrize(
    "page",
    [path for path in (DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))) if commands(path)],
    ids=lambda page: page.name,
)
def test_commands_are_understood(page, monkeypatch, capsys):
    """They are parsed as they are printed; what they would do is not done."""
    for where in ("data", "command_line"):  # the former, when it is imported, takes the function of the latter
        monkeypatch.setattr(f"unrolled.cli.{where}.call", lambda function, options: 0)
    for argv in commands(page):
        try:
            status = main([*argv, *["--print_config"] * (argv[0] in ("train", "classify"))])
        except SystemExit as stop:
            status = stop.code
        assert status == 0, (argv, capsys.readouterr().err)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_linked_files_exist(page):
    text = page.read_text(encoding="utf-8")
    headings = {title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (DOCS / target.split("#")[0]).exists(), target
