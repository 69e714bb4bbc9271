"""Which tests of long matrices `make test` leaves to the long run."""

from tests.pairs import LONG, other_color


def test_of_a_long_matrix_every_law_and_every_class_keeps_about_half():
    laws, classes = 8, LONG + 3
    rows = [("penalties", f"law {law}") for law in range(laws) for _ in range(classes)]
    left = {*other_color(rows)}
    kept = [[law * classes + column not in left for column in range(classes)] for law in range(laws)]
    for row in kept:
        assert abs(2 * sum(row) - classes) <= 1
    for column in zip(*kept, strict=True):
        assert 2 * sum(column) == laws


def test_short_rows_and_what_is_no_matrix_of_laws_stay_whole():
    assert other_color([("penalties", "law")] * (LONG - 1)) == []
    assert other_color([("project", "pages")] * 50) == []
