"""What holds for the package as a whole."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import unrolled

PACKAGE = Path(unrolled.__file__).parent


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


HEAVY = ("torch._dynamo", "torchvision", "matplotlib", "skimage", "scipy", "h5py", "jsonargparse", "pooch", "yaml")
LOADED = f"""
import sys, unrolled
print([name for name in {HEAVY} if name in sys.modules])
unrolled.load("epgn-cs25")
print([*{{"torch._dynamo", "sympy"}} & {{*sys.modules}}])
"""


def test_import_is_light_and_weights_are_loaded_without_the_compiler():
    assert run(LOADED) == "[]\n[]"


def test_a_wheel_carries_configs_weights_and_types(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=PACKAGE.parent, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    root = PACKAGE.parent
    wanted = {f"unrolled/{path.relative_to(root)}" for path in (root / "configs").rglob("*.yaml")}
    wanted |= {str(path.relative_to(root)) for path in PACKAGE.rglob("*.safetensors")}
    manifests = {f"unrolled/datasets/{path.name}" for path in (root / "datasets").glob("*.yaml")}
    assert manifests == {name for name in inside if name.startswith("unrolled/datasets/")}  # no data that lies there
    assert wanted | {"unrolled/py.typed"} <= inside


@pytest.mark.parametrize("name", unrolled.__all__)
def test_public_names_are_documented(name):
    assert getattr(unrolled, name).__doc__
