import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import attempt, mutate
from tests.kinds import KINDS
from tests.pairs import FULL

MUTATIONS = 1000 if FULL else 3

# Whole files that are refused for what they are.
REFUSED = {"moving", "objects", "other", "half-1-of-2"}

# Kinds of which what is damaged is left out, so that none is refused.
FORGIVING = {"metrics"}


def fuzz(*options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *options],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )


def test_damaged_files_give_an_answer_or_a_message():
    run = fuzz("--mutations", str(MUTATIONS))
    assert run.returncode == 0, run.stdout + run.stderr
    for name in KINDS:
        (row,) = (line.split() for line in run.stdout.splitlines() if line.split()[:1] == [name])
        assert int(row[1]) == MUTATIONS
        assert int(row[3]) > 0 or name in FORGIVING


@pytest.mark.parametrize("name", KINDS)
def test_whole_files_give_an_answer(name, tmp_path):
    wholes, here = tmp_path / "whole", tmp_path / "case"
    wholes.mkdir()
    here.mkdir()
    KINDS[name].write(wholes)
    # Of many files, which are configs and weights that other tests read too, every fourth.
    found = sorted(wholes.iterdir())
    for whole in found[:: 1 if FULL or len(found) < 12 else 4]:
        path = here / f"copy{whole.suffix}"
        path.write_bytes(whole.read_bytes())
        outcome, reason = attempt(KINDS[name].read, path)
        assert outcome == ("refusal" if whole.stem in REFUSED else "answer"), f"{whole.name}: {reason}"


SEEN = {
    "fails": "KeyError: 'no reader should let this out'",
    "is_silent": "a refusal without a message",
    "loops": "hang: more than",
    "sleeps_through_signals": "hang",
    "dies": "crash with status -11",
    "executes": "executed code",
    "leaves": "left behind: damaged.part",
    "destroys": "the file was changed",
    "swallows_memory": "asked for more than",
}
"""What the fuzzer must say of bad readers."""


def test_the_fuzzer_sees_what_bad_readers_do_and_does_not_blame_the_innocent():
    run = fuzz("--table", "tests.bad_readers", "--mutations", "1", "--seed", "7", "--seconds", "0.2")
    assert run.returncode == 1
    rows = [line.split() for line in run.stdout.splitlines()]
    for kind, reason in SEEN.items():
        assert [row[-1] for row in rows if row[:1] == [kind]] == ["1"], kind
        assert f"{kind}: {reason}" in run.stdout
        assert f"--kind {kind} --seed 7 --only 0" in run.stdout
    assert ["is_sound", "1", "0", "1", "0"] in rows


def test_cases_are_a_function_of_the_seed(tmp_path):
    wholes, here = tmp_path / "whole", tmp_path / "case"
    wholes.mkdir()
    KINDS["npy"].write(wholes)
    first, again, other = (mutate(KINDS["npy"], wholes, here, seed)[1] for seed in ("0 npy 1", "0 npy 1", "1 npy 1"))
    assert first == again != other
