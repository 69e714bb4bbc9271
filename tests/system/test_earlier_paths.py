import importlib
import sys

import pytest

from unrolled.system.earlier_paths import MOVED


@pytest.mark.parametrize("path", MOVED)
def test_modules_are_found_by_their_earlier_paths(path, monkeypatch):
    monkeypatch.delitem(sys.modules, path, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{path} has moved: import from {MOVED[path]}"):
        earlier = importlib.import_module(path)
    now = importlib.import_module(MOVED[path])
    public = [name for name in vars(now) if not name.startswith("_")]
    assert public
    assert all(getattr(earlier, name) is getattr(now, name) for name in public)
    with pytest.raises(AttributeError):
        _ = earlier.nothing
