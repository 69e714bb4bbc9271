import os
import sys
from pathlib import Path

import pytest
import yaml

from unrolled.cli import main
from unrolled.cli.config_file import load

CONFIG = (Path(__file__).parents[2] / "configs/cs/epgn_25.yaml").read_text()
TENFOLD = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcde", "bcdef", strict=True)
)


def errors(capsys, path) -> str:
    """What is said of a config, which is never followed further than to be printed."""
    try:
        status = main(["train", "--config", str(path), "--print_config"])
    except SystemExit as stop:
        status = stop.code
    assert status in (1, 2)
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if not line.startswith(("usage:", "tip:"))]) == 1
    return err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TENFOLD + CONFIG, r"aliases (*a) are not allowed"),
        ("data: &x\n  train: *x\n", "aliases (*x) are not allowed"),
        ("data: " + "[" * 20_000, "nest"),  # in the words of the parser, of which there are two
        ("data: " + "[" * 40, "nested 30 deep"),
        ("data: " + "{a: " * 3_000 + "1" + "}" * 3_000, "nested 30 deep"),
        (CONFIG.replace("seed: 0", "seed: !!python/object/apply:os.mkdir [canary]"), "python/object/apply:os.mkdir"),
        (CONFIG.replace("seed: 0", "seed: " + "9" * 5_000), "at most 20 digits, got 5,000"),
        (CONFIG.replace("seed: 0", "seed: !!int ''"), "a value cannot be read"),
        (CONFIG + "#" * 100_000, "at most 100,000 bytes"),
        (CONFIG + "config: other.yaml\n", "names another config"),
        (CONFIG.replace("  ", "\t"), "cannot be read"),
        (bytes(range(256)), "not text in UTF-8"),
        ("", "must hold settings"),
        ("- a\n- b\n", "must hold settings"),
        ("hello", "must hold settings"),
        ("1: 2\n" + CONFIG, "Key must be a string"),
        (CONFIG + "---\n" + CONFIG, "single document"),
        (CONFIG.replace("unrolled.networks.EPGN", "os.system"), "os.system"),
    ],
)
def test_what_is_no_config_is_refused_with_its_reason(tmp_path, monkeypatch, capsys, text, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert message in errors(capsys, path)
    assert [found.name for found in tmp_path.iterdir()] == ["bad.yaml"]


@pytest.mark.parametrize("setting", ["network", "operator", "data", "training", "sparsifier", "noise"])
def test_no_setting_reads_a_file(setting, tmp_path, capsys):
    (tmp_path / "other.yaml").write_text("secret: [words]")
    os.mkfifo(tmp_path / "pipe")  # to read it would never end
    settings = yaml.safe_load(CONFIG)
    for other in ("other.yaml", "pipe"):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({**settings, setting: str(tmp_path / other)}))
        assert "secret" not in errors(capsys, tmp_path / "config.yaml")
        with pytest.raises(SystemExit):
            main(["train", "--config=configs/cs/epgn_25.yaml", f"--{setting}={tmp_path / other}", "--print_config"])
        said = capsys.readouterr()
        assert "secret" not in said.out + said.err


def test_only_regular_files_are_opened(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", tmp_path, "/dev/zero"):
        assert "not a regular file" in errors(capsys, path)


def test_a_module_that_a_config_names_is_not_imported(tmp_path, monkeypatch, capsys):
    (tmp_path / "stranger.py").write_text(
        "class Stranger:\n    def __init__(self, *args, **kwargs):\n        open('canary', 'w')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "bad.yaml").write_text(CONFIG.replace("unrolled.networks.EPGN", "stranger.Stranger"))
    assert "'stranger.Stranger' may not be named" in errors(capsys, "bad.yaml")
    assert "stranger" not in sys.modules
    assert not (tmp_path / "canary").exists()


def test_null_is_a_value_like_others(tmp_path, capsys):
    for setting, value in {"data": None, "training": [], "seed": None, "folder": None}.items():
        (tmp_path / "bad.yaml").write_text(yaml.safe_dump({**yaml.safe_load(CONFIG), setting: value}))
        with pytest.raises(SystemExit):
            main(["train", "--config", str(tmp_path / "bad.yaml")])
        assert setting in capsys.readouterr().err.splitlines()[-1]


def test_a_value_of_the_command_line_may_be_no_longer_than_a_config():
    with pytest.raises(yaml.YAMLError, match="at most 100,000 characters, got 100,001"):
        load("a" * 100_001)
