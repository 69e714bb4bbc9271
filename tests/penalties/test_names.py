import pytest

from unrolled.penalties import MCP, LogSum, Weighted
from unrolled.penalties.names import drawable_penalties, label, parse_penalty, penalty_classes


def test_every_penalty_is_found_and_read_back_from_what_is_written():
    found = drawable_penalties()
    assert {"L1", "L0", "MCP", "LogSum"} <= set(found) <= set(penalty_classes())
    assert "SeparablePenalty" not in found
    for name, penalty in found.items():
        assert type(penalty).__name__ == name
        assert parse_penalty(name) == penalty
        assert label(parse_penalty(label(penalty))) == label(penalty)


def test_parameters_by_name_and_by_place():
    assert parse_penalty(" MCP(gamma=1.5, b = 3) ") == parse_penalty("MCP(1.5, 3)") == MCP(1.5, 3)
    assert parse_penalty("MCP(b=3)") == MCP(b=3)
    assert parse_penalty("LogSum()") == LogSum()
    assert parse_penalty("Weighted(MCP(b=3), 2.0)") == Weighted(MCP(b=3), 2.0)
    assert label(Weighted(MCP(b=3), 2.0)) == "Weighted(penalty=MCP(gamma=1, b=3), weights=2)"
    assert label(MCP(1.5, 3)) == "MCP(gamma=1.5, b=3)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Lasso", "unknown penalty 'Lasso'; known: .*L1, .*MCP"),
        ("__import__('os')", "unknown penalty '__import__'"),
        ("MCP(b=Lasso)", "unknown penalty 'Lasso'"),
        ("L1; L0", "not a penalty"),
        ("", "not a penalty"),
        ("3", "not a penalty"),
        ("MCP(1, 2, 3)", "not a penalty"),
        ("MCP(1, gamma=2)", "not a penalty"),
        ("MCP(**{'b': 3})", "not a penalty"),
        ("MCP(b=1 + open('x'))", "not a penalty"),
        ("os.MCP(b=1)", "not a penalty"),
        ("(" * 300 + ")" * 300, "not a penalty"),
        ("MCP(b=-1)", "MCP: b must be a finite number > 0, got -1"),
        ("MCP(b='1')", "MCP: b must be"),
        ("MCP(c=1)", "MCP cannot be built from"),
    ],
)
def test_what_is_no_penalty_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_penalty(text)
