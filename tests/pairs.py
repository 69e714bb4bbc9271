"""Few combinations of many factors in which every two values still meet."""

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, product
from typing import Any

FULL = bool(os.environ.get("UNROLLED_TEST_FULL"))
"""Whether all combinations are tested, as `make test-full` does."""


ALTERNATE = bool(os.environ.get("UNROLLED_TEST_ALTERNATE")) and not FULL
"""Whether long matrices of laws and classes are tested like the squares of one colour on a board, by `make test`; the
board has two colours, or three if it is very long."""

MATRICES = ("data", "networks", "operators", "penalties", "solvers", "sparsify")
"""Folders of tests whose long matrices are laws over classes."""

LONG = 6
"""Cases of a test that make its row of the matrix long."""

VERY_LONG = 12
"""Cases that make it so long that every third is enough."""


def other_color(rows: Sequence[tuple[str, str]]) -> list[int]:
    """Which tests are left out: of a long row all but every other, so that each column keeps about half of its rows.

    Of a very long row all but every third, so that each column keeps about a third of these.

    Parameters
    ----------
    rows : sequence of (folder, name of the test without its case)
        of every test, in their order; rows need not be connected.

    Returns
    -------
    list of int
        their numbers
    """
    numbers: dict[tuple[str, str], list[int]] = {}
    for number, row in enumerate(rows):
        numbers.setdefault(row, []).append(number)
    left, turns = [], {2: 0, 3: 0}
    for (folder, _), row in numbers.items():
        if folder in MATRICES and len(row) >= LONG:
            colors = 3 if len(row) >= VERY_LONG else 2
            left += [number for place, number in enumerate(row) if (place - turns[colors]) % colors]
            turns[colors] += 1
    return left


def first_of(values: Iterable[Any], count: int = 1) -> list[Any]:
    """So many values that stand for all of them, or with `make test-full` all."""
    return list(values)[: None if FULL else count]


def in_turn(first: Sequence[Any], second: Sequence[Any], each: int, whole: bool = False) -> list[tuple[Any, Any]]:
    """Every value of the first with so many of the second, of which each comes about as often; or with all of them."""
    if whole:
        return list(product(first, second))
    return [(one, second[(index * each + k) % len(second)]) for index, one in enumerate(first) for k in range(each)]


def pairwise(
    *factors: Sequence[Any], allowed: Callable[..., bool] = lambda *_: True, whole: bool = False
) -> list[tuple[Any, ...]]:
    """Combinations of one value of each factor, in which any two values meet that can.

    Parameters
    ----------
    *factors : sequence
        the values of each factor.
    allowed : function of one value of each factor
        whether these can be combined.
    whole : bool
        give every combination instead.

    Returns
    -------
    list of tuple, the same for the same arguments
    """
    every = [which for which in product(*factors) if allowed(*which)]
    if whole:
        return every
    places = list(combinations(range(len(factors)), 2))

    def pairs(which: tuple[Any, ...]) -> set[tuple[Any, ...]]:
        return {(a, b, which[a], which[b]) for a, b in places}

    missing = set().union(*map(pairs, every)) if every else set()
    chosen = []
    # Those first that bring most at once: not the fewest that are possible, but close to it, and quick.
    for gain in range(len(places), 0, -1):
        for which in every:
            if len(new := pairs(which) & missing) >= gain:
                chosen.append(which)
                missing -= new
    return chosen
