from PIL import Image

from tests.helpers import write_picture
from tests.training.small_runs import fit, options
from unrolled.cli import demo, main
from unrolled.data import ImageData, embedded_images
from unrolled.training.runs.checkpoint import load_checkpoint


def test_the_demo_runs_and_leaves_its_table_and_pictures(tmp_path, monkeypatch, capsys):
    part = {"camera": embedded_images("test")["camera"][:, :99, :231]}  # small, for whole images take a minute
    monkeypatch.setattr(demo, "embedded_images", lambda split: part)
    monkeypatch.setattr(demo, "SHIPPED", "epgn-cs25-small")
    for seed in range(3):
        write_picture(tmp_path / "train" / f"{seed}.png", 66, 66, seed)
    data = ImageData([str(tmp_path / "train")], hold_out=1)
    monkeypatch.setattr(demo, "ImageData", lambda: data)
    folder = tmp_path / "demo"
    fit(folder, training=options(steps=1), card={"made_by": demo.MADE_BY})
    (folder / "table.txt").write_text("of the demo before")
    assert main(["demo", "--folder", str(folder), "--steps", "2"]) == 0
    assert load_checkpoint(folder / "last.pt")["steps"] == 2
    table = (folder / "table.txt").read_text()
    assert table in capsys.readouterr().out
    for row in ("linear start", "proximal gradient", "trained just now", "shipped (epgn-cs25-small)"):
        assert row in table
    for name in ("camera.png", "camera-comparison.png", "camera-iterates.png"):
        with Image.open(folder / name) as file:
            file.verify()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_demo_leaves_alone_what_no_demo_made(tmp_path, capsys):
    fit(tmp_path / "run", training=options(steps=1))
    before = contents(tmp_path / "run")
    assert main(["demo", "--folder", str(tmp_path / "run")]) == 1
    assert "run holds a run that unrolled demo did not make; choose another folder" in capsys.readouterr().err
    assert contents(tmp_path / "run") == before
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "camera.png").write_bytes(b"mine")
    assert main(["demo", "--folder", str(tmp_path / "own")]) == 1
    assert "holds camera.png, and no unrolled demo that made it" in capsys.readouterr().err
    assert contents(tmp_path / "own") == {"camera.png": b"mine"}
