from PIL import Image

from tests.helpers import write_picture
from unrolled.cli import demo, main
from unrolled.data import ImageData, embedded_images


def test_the_demo_runs_and_leaves_its_table_and_pictures(tmp_path, monkeypatch, capsys):
    part = {"camera": embedded_images("test")["camera"][:, :99, :231]}  # small, for whole images take a minute
    monkeypatch.setattr(demo, "embedded_images", lambda split: part)
    monkeypatch.setattr(demo, "SHIPPED", "epgn-cs25-small")
    for old in ("last.pt", "metrics.jsonl"):  # a demo may be run again in its folder
        (tmp_path / old).write_bytes(b"")
    for seed in range(3):
        write_picture(tmp_path / "train" / f"{seed}.png", 66, 66, seed)
    data = ImageData([str(tmp_path / "train")], hold_out=1)
    monkeypatch.setattr(demo, "ImageData", lambda: data)
    assert main(["demo", "--folder", str(tmp_path), "--steps", "2"]) == 0
    table = (tmp_path / "table.txt").read_text()
    assert table in capsys.readouterr().out
    for row in ("linear start", "proximal gradient", "trained just now", "shipped (epgn-cs25-small)"):
        assert row in table
    for name in ("camera.png", "camera-comparison.png", "camera-iterates.png"):
        with Image.open(tmp_path / name) as file:
            file.verify()
