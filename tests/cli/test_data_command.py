import h5py
import pytest

from tests.helpers import write_picture
from unrolled.cli import main
from unrolled.data.known import find_known, known_sets


def test_list_shows_every_set_and_whether_it_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNROLLED_DATA", str(tmp_path))
    (tmp_path / "chest-mr").mkdir()
    (tmp_path / "chest-mr" / "chest_train.h5").write_bytes(b"x")
    assert main(["data", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(lines) == {"name", *(known.name for known in known_sets())}
    assert "91 train" in lines["T91"]
    assert " no " in lines["T91"]
    assert " yes " in lines["Chest-MR"]


def test_check_says_per_file_and_fails_unless_whole(tmp_path, capsys):
    names = find_known("BSD68").copies[0].files("test")
    for name in names[1:]:
        write_picture(tmp_path / name, 4, 4)
    assert main(["data", "check", "bsd68", "--folder", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "missing                test001.png" in out
    assert "1 of 68 files are missing or altered" in out
    assert "Roth" in out
    write_picture(tmp_path / names[0], 4, 4)
    assert main(["data", "check", "bsd68", "--folder", str(tmp_path)]) == 0
    assert "all 68 files are there" in capsys.readouterr().out


def test_check_sees_an_altered_file(tmp_path, capsys):
    write_picture(tmp_path / "house.tif")
    assert main(["data", "check", "set11", f"--folder={tmp_path}"]) == 1
    assert "altered                house.tif" in capsys.readouterr().out


def test_get_explains_what_it_cannot_fetch_and_is_content_with_what_is_there(tmp_path, capsys):
    assert main(["data", "get", "T91", "--folder", str(tmp_path)]) == 1
    assert "--folder DIR" in capsys.readouterr().err
    for name in find_known("BSD68").copies[0].files("test"):
        write_picture(tmp_path / name, 4, 4)
    assert main(["data", "get", "BSD68", "--folder", str(tmp_path)]) == 0


def test_prepare_writes_and_trains(tmp_path, capsys):
    for seed in range(12):
        write_picture(tmp_path / "photos" / f"{seed}.png", 70, 80, seed)
    (tmp_path / "photos" / "broken.png").write_bytes(b"")
    out = tmp_path / "set.h5"
    argv = ["data", "prepare", str(tmp_path / "photos"), "--out", str(out), "--licence", "mine"]
    assert main(argv) == 1
    assert "broken.png" in capsys.readouterr().err
    assert main([*argv, "--skip-broken"]) == 0
    printed = capsys.readouterr().out
    assert "left out: image:" in printed
    assert f"written: {out}" in printed
    with h5py.File(out) as file:
        assert file.attrs["licence"] == "mine"
    assert main(argv) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*argv, "--skip-broken", "--force", "--shards=2"]) == 0
    assert not out.exists()
    train = ["train", "--config", "configs/cs/epgn_25.yaml", f"--data.train=[{tmp_path}/set-1-of-2.h5]"]
    small = ["--training.minutes=null", "--training.steps=1", "--training.batch=1", "--network.phases=1",
             "--network.features=2", f"--folder={tmp_path / 'run'}"]  # fmt: skip
    assert main([*train, *small]) == 1
    assert "of the 2 shards" in capsys.readouterr().err
    train[-1] = f"--data.train=[{tmp_path / 'moved'}]"
    (tmp_path / "moved").mkdir()
    for path in tmp_path.glob("set-*"):
        path.rename(tmp_path / "moved" / path.name)
    assert main([*train, *small, "--data.hold_out=2", "--data.cache_mib=0"]) == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["check", "ImageNet"], "no known data set 'ImageNet'; known: Brain-MR"),
        (["prepare", "nowhere", "--out", "x.h5"], "no folder nowhere"),
        (["prepare", "nowhere", "--out", "x.zip"], "out must end in"),
    ],
)
def test_mistakes_are_named(argv, message, capsys):
    assert main(["data", *argv]) == 1
    assert message in capsys.readouterr().err
