"""Freed memory is kept only where it is asked for."""

import subprocess
import sys

import pytest

from unrolled.system.memory import keep_freed_memory

# Small objects come to lie behind the first tensors, whose places are then a few bytes too short for the next ones:
# after one or two rounds each has found a place that fits.
FAULTS = """
import resource, torch, unrolled
torch.set_num_threads(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        torch.ones(2**24)  # 64 MiB, more than glibc keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
assert unrolled.system.keep_freed_memory()
for _ in range(4):
    faults()
print(faults())
"""


@pytest.mark.full  # its process asks for gigabytes
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_pages_are_asked_for_once():
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, check=True)
    before, after = map(int, run.stdout.split())
    assert before > 3_000  # importing the package alone changes nothing
    assert after < 1_000


@pytest.mark.parametrize("name", ["kept", "largest"])
@pytest.mark.parametrize("value", [0, -1, 2**31])
def test_bad_values_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        keep_freed_memory(**{name: value})
