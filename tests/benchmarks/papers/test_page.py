"""The page of the papers says what was measured, and each of its studies is one that can be run."""

import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from benchmarks.papers import __main__ as papers
from benchmarks.papers import study, summary

ROOT = Path(__file__).parents[3]
STUDIES = sorted((ROOT / "configs" / "papers").glob("*.yaml"))


def test_the_page_is_made_of_the_figures():
    assert papers.page() == papers.PAGE.read_text()


def test_every_picture_is_shown_and_every_picture_shown_is_there():
    shown = set(re.findall(r"\]\(papers/([\w-]+\.png)\)", papers.PAGE.read_text()))
    assert shown == {path.name for path in papers.FOLDER.glob("*.png")}


@pytest.mark.parametrize("module", papers.modules(), ids=lambda module: module.__name__.rsplit(".", 1)[-1])
def test_every_paper_is_measured_and_drawn(module, tmp_path):
    found = papers.figures(module)
    assert found is not None
    module.draw(*found, folder=tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn
    assert drawn <= {path.name for path in papers.FOLDER.glob("*.png")}
    text = module.section(*found)
    for name in drawn:
        assert f"(papers/{name})" in text
        assert (tmp_path / name).stat().st_size < 150_000
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) >= 300


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_run_of_every_study_is_a_config(path, tmp_path):
    content = study.read(str(path))
    for name, run in content["runs"].items():
        settings = study.merged(content["base"], run or {})
        settings.pop("start", None)
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump(settings))
        study.command_of(settings).parser().parse_args([f"--config={config}"])


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_committed_run_is_one_of_its_study(path):
    figures = papers.FOLDER / f"{path.stem}.json"
    if not figures.exists():
        assert path.stem in (ROOT / "docs" / "training-queue.md").read_text()
        return
    found, content = yaml.safe_load(figures.read_text()), study.read(str(path))
    assert found["published"] == content["published"]
    done = [f"{row['name']}-{row['seed']}" for row in found["runs"]]
    assert len(done) == len(set(done)) > 0
    assert {row["name"] for row in found["runs"]} <= set(content["runs"])
    for run in papers.missing(path.stem):
        assert run in papers.PAGE.read_text()
        assert run not in done


def test_readme_has_the_summary():
    assert summary.summary() in (ROOT / "README.md").read_text()
