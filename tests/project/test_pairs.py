"""Which tests of long matrices `make test` leaves to the long run."""

import pytest

from tests.pairs import LONG, VERY_LONG, other_color


@pytest.mark.parametrize(("classes", "share"), [(LONG, 2), (VERY_LONG - 1, 2), (VERY_LONG, 3), (VERY_LONG + 8, 3)])
def test_of_a_long_matrix_every_law_and_every_class_keeps_its_share(classes, share):
    laws = 4 * share
    rows = [("penalties", f"law {law}") for law in range(laws) for _ in range(classes)]
    left = {*other_color(rows)}
    kept = [[law * classes + column not in left for column in range(classes)] for law in range(laws)]
    for row in kept:
        assert abs(share * sum(row) - classes) < share
    for column in zip(*kept, strict=True):
        assert share * sum(column) == laws


def test_short_rows_and_what_is_no_matrix_of_laws_stay_whole():
    assert other_color([("penalties", "law")] * (LONG - 1)) == []
    assert other_color([("project", "pages")] * 50) == []
