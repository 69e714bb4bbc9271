"""What a page says follows from its facts: every condition has both outcomes, and nothing is shown that is no fact."""

import copy

import jinja2
import pytest

from benchmarks.papers import __main__ as papers
from benchmarks.papers import templates


@pytest.fixture(scope="module")
def facts():
    return {section: papers.module_of(section).facts(*papers.figures(section)) for section in papers.SECTIONS}


def conditions(value, path=()):
    """The places of all facts that hold or do not."""
    if isinstance(value, bool):
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from conditions(each, (*path, key))


def changed(facts, path, value):
    """The facts with another value in a place; a function of the value before if it is one."""
    facts = copy.deepcopy(facts)
    *outer, last = path
    inner = facts
    for key in outer:
        inner = inner[key]
    inner[last] = value(inner[last]) if callable(value) else value
    return facts


def said(section, facts):
    return " ".join(templates.render(section, facts).split())


@pytest.mark.parametrize("section", papers.SECTIONS)
def test_every_condition_changes_what_is_said(section, facts):
    before = said(section, facts[section])
    for path in conditions(facts[section]):
        assert said(section, changed(facts[section], path, lambda holds: not holds)) != before, path


PAPER = {"epochs": 3, "before": 2.0, "after": 80.0, "weights_zero": 0.5, "groups_zero": 0.25}


@pytest.mark.parametrize(
    ("section", "path", "value", "there", "then"),
    [
        ("theory", ("descent", "rises", 0, "first"), None, "L_β: l1 from 1.03,", "L_β: l1 nowhere,"),
        ("theory", ("fixed_points", "rows", 0, "elsewhere"), None, "| 0.0037, 9 |", None),
        ("duality", ("not_run",), ["VarDrop"], None, "Not run, for lack of time: VarDrop."),
        ("duality", ("one_seed",), [], "Not judged", None),
        ("duality", ("dropouts", "shown"), ["VarDrop"], None, "is shown for VarDrop and is refuted for VarDrop+LR+AR."),
        ("duality", ("dropouts", "pairs"), 0, "**Dropout and penalty.**", None),
        ("duality", ("by_size", "alike"), [], "Alike: LogSum – AdaTikhonov (", None),
        ("mnist", ("networks", 0, "failed"), {"a-0": "why"}, None, "These runs failed: a-0 (why)."),
        ("mnist", ("networks", 0, "kinds", 0, "best"), None, None, "No run with shifts reaches that compression."),
        ("mnist", ("networks", 0, "kinds", 0, "beaten"), [], "compression than Pruning, Dynamic", None),
        ("groups", ("paper",), PAPER, None, "at 80.00 % when the sparse copy takes their place: 50.0% of its weights"),
        ("groups", ("penalties",), None, "Among the five penalties", None),
        ("groups", ("published", "off"), [], "3 of 4 (not: L0-sep, +1.1%).", "3 of 4."),
        ("groups", ("reached", "by"), [], "is reached by 5 of the 7", "is not reached."),
        ("groups", ("speed", "threads"), 2, "1 thread of", "2 threads of"),
        ("groups", ("rows", 0, "seeds"), 3, None, "| 3 seeds: 0.80 |"),
        ("binary", ("failed",), ["relu-0"], None, "Failed: relu-0."),
        ("binary", ("shortened",), None, "--training.epochs null", None),
        ("binary", ("changes",), None, "With a tenth of the weights", None),
        ("binary", ("penalties",), [], "Penalties with the estimator", None),
        ("binary", ("bare",), None, "The batch norms matter", None),
        ("binary", ("bare", "chance"), [], "They learn nothing with the estimator ReLU.", None),
        ("binary", ("seeds",), [0, 1], "seed 0", "seeds 0, 1"),
        ("cifar", ("control",), None, "is trained on without zeros for as long", None),
        ("cifar", ("lasso",), [0.5], None, "`SparseGroupLasso`, with a group lasso of 0.5 on filters;"),
        ("cifar", ("not_run",), [], "Not run, for lack of time: `", None),
        ("cifar", ("rows", 0, "runs", 0), None, "| magnitude pruning | 79.14 |", "| magnitude pruning | – |"),
        ("circle", ("single",), None, "**Single weights.**", None),
        ("circle", ("maps", "rows"), [], "| filters at zero |", None),
    ],
)
def test_what_there_is_not_is_not_spoken_of(section, path, value, there, then, facts):
    before, after = said(section, facts[section]), said(section, changed(facts[section], path, value))
    assert there is None or (there in before and there not in after)
    assert then is None or (then in after and then not in before)


def page(monkeypatch, tmp_path, template, **facts):
    (tmp_path / "mine.md").write_text(template)
    monkeypatch.setattr(templates, "FOLDER", tmp_path)
    return templates.render("mine", facts)


def test_paragraphs_are_filled_and_nothing_else_is(monkeypatch, tmp_path):
    word, code = "wörd " * 30, "    code " + 40 * "long "
    lines = page(
        monkeypatch, tmp_path, f"# {word}\n\n\n  \n{word}\nend\n\n- {word}\n- b\n\n{code}\n\n| {word}|\n"
    ).split("\n")
    assert lines[:2] == [f"# {word}".rstrip(), ""]
    assert lines[2:4] == [("wörd " * 24).strip(), "wörd wörd wörd wörd wörd wörd end"]
    assert lines[5:8] == [("- " + "wörd " * 23).strip(), "  " + ("wörd " * 7).strip(), "- b"]
    assert lines[9:] == [code.rstrip(), "", f"| {word}|"]


@pytest.mark.parametrize("mark", ["+ b", "- b", "> 2", "# b", "1. b"])
def test_no_line_of_a_paragraph_begins_like_something_else(mark, monkeypatch, tmp_path):
    for length in range(100, 125):
        lines = page(monkeypatch, tmp_path, f"{'a' * length} {mark} " + "c " * 60).split("\n")
        assert not any(line.startswith(mark) for line in lines)
        assert " ".join(lines) == f"{'a' * length} {mark} {'c ' * 60}".strip()


def test_what_is_no_fact_is_refused(monkeypatch, tmp_path):
    with pytest.raises(jinja2.UndefinedError, match="'psnr' is undefined"):
        page(monkeypatch, tmp_path, "{{ psnr }}", accuracy=1)


def test_numbers_and_lists_in_words():
    assert templates.number(1234.5, ",.1f") == "1,234.5"
    assert templates.thousands(112_600, ".0f") == "113K"
    assert (templates.signed(-0.061), templates.signed(0.2)) == ("−0.06", "+0.20")
    assert [templates.listed("abc"[:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
