from PIL import Image

from unrolled.cli import main


def test_the_demo_runs_and_leaves_its_table_and_pictures(tmp_path, capsys):
    assert main(["demo", "--folder", str(tmp_path), "--steps", "2"]) == 0
    table = (tmp_path / "table.txt").read_text()
    assert table in capsys.readouterr().out
    for row in ("linear start", "proximal gradient", "trained just now"):
        assert row in table
    for name in ("camera.png", "camera-comparison.png", "camera-iterates.png", "curve.png"):
        with Image.open(tmp_path / name) as file:
            file.verify()
    assert main(["demo", "--folder", str(tmp_path), "--steps", "2"]) == 0  # again in the same folder
