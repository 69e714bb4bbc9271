"""The commands as a user types them."""

import json
import os
import signal
import threading
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import unrolled
from tests.helpers import picture, untrained_configs, write_picture
from tests.pairs import first_of
from tests.training.small_runs import file_size_limit
from unrolled.cli import COMMANDS, main
from unrolled.data import open_images
from unrolled.data.stores import to_float
from unrolled.networks import EPGN, Implicit
from unrolled.operators import BlockCompressedSensing

ROOT = Path(__file__).parents[2]
SMALL = ["--data.hold_out=1", "--training.minutes=null", "--training.steps=2", "--training.validations=1",
         "--training.batch=1", "--network.phases=1", "--network.features=2", "--training.bfloat16=false"]  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of three pictures."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(3):
        write_picture(folder / f"{seed}.png", 66, 66, seed)
    return folder


@pytest.fixture
def train(photos, tmp_path):
    """Training two steps of a config on the pictures, in the folder `run` unless another is named."""

    def run(*argv, config="configs/cs/epgn_25.yaml", folder="run"):
        where = [f"--data.train=[{photos}]", f"--folder={tmp_path / folder}"]
        return main(["train", f"--config={config}", *where, *SMALL, *argv])

    return run


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "w.safetensors"
    unrolled.save(path, EPGN(2, 2), BlockCompressedSensing(ratio=0.25, block=11))
    return str(path)


def errors(capsys, *argv) -> str:
    assert main(list(argv)) == 1
    captured = capsys.readouterr().err
    assert "Traceback" not in captured
    return captured


def size_and_mode(path):
    with Image.open(path) as picture:
        return picture.size, picture.mode


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)
    assert main(["dance"]) == 2
    assert "unknown command 'dance'" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"unrolled {command}" in capsys.readouterr().out


OF_MRI = sorted((ROOT / "configs" / "mri").rglob("*.yaml"))
OTHERS = untrained_configs("cs")
"""Configs that only differ in what is made: all are trained, and of each kind the first is used for the rest, too."""


@pytest.mark.parametrize("config", OF_MRI, ids=lambda path: path.stem)
def test_every_config_of_magnetic_resonance_trains_and_evaluates(config, train, photos, tmp_path, capsys):
    drawn = "operator" in yaml.safe_load(config.read_text())["operator"]["init_args"]  # which follows the crops
    sizes = [] if drawn else ["--operator.height=66", "--operator.width=66"]
    assert train(*sizes, "--data.crop=66", config=config) == 0
    assert "validation PSNR" in capsys.readouterr().out
    if config not in first_of(OF_MRI):
        return
    best, square = str(tmp_path / "run" / "best.safetensors"), str(photos / "0.png")
    assert main(["evaluate", "--weights", best, "--data", square]) == 0
    assert main(["reconstruct", square, "--weights", best, "--out", str(tmp_path / "x.png")]) == 0
    other = write_picture(tmp_path / "other.png", 66, 70)
    message = errors(capsys, "evaluate", "--weights", best, "--data", str(other))
    assert "images must be (batch, channel, 66, 66), got (1, 1, 66, 70)" in message


@pytest.mark.parametrize("config", OTHERS, ids=lambda path: path.stem)
def test_every_config_trains(config, train, photos, tmp_path, capsys):
    folder = tmp_path / "run"
    assert train("--training.clip=null", config=config) == 0
    assert "validation PSNR" in capsys.readouterr().out
    if config not in first_of(OTHERS):
        return
    assert main(["evaluate", "--weights", str(folder / "best.safetensors"), "--data", str(photos / "0.png")]) == 0
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["training"]["steps"] == 2
    assert saved["training"]["clip"] is None  # what was turned off stays off
    card = unrolled.weights.card.read_card(folder / "best.safetensors")
    assert yaml.safe_load(card["config"])["data"]["train"] == [photos.name]
    assert yaml.safe_load(card["config"])["folder"] == "run"
    environment = json.loads((folder / "environment.json").read_text())
    assert {"python", "torch", "device", "revision"} <= set(environment)
    # The saved config is a config: it resumes (here: to its end at once).
    assert main(["train", "--config", str(folder / "config.yaml"), "--resume"]) == 0


def test_weights_are_evaluated_on_operators_of_every_size_and_kind(train, photos, tmp_path, capsys, recwarn):
    masks = ["--network.ratio_range=[0.1,0.5]", "--data.crop=66"]
    assert train(*masks, config="configs/mri/epgn_masks.yaml") == 0
    weights = str(tmp_path / "run" / "best.safetensors")
    other, figures = write_picture(tmp_path / "other.png", 40, 50), str(tmp_path / "figures.json")
    evaluate = ["evaluate", "--weights", weights, "--json", figures, "--data"]
    radial = ["--operator=MaskedFourier", "--operator.mask", "RadialMask"]
    found = {}
    for ratio in ("0.1", "0.9"):
        for image in (photos / "0.png", other):
            assert main([*evaluate, str(image), *radial, "--operator.mask.ratio", ratio]) == 0
            found[ratio, image] = json.loads(Path(figures).read_text())["start_psnr"]
    assert all(found["0.9", image] > found["0.1", image] + 1 for image in (photos / "0.png", other))
    assert main([*evaluate, str(other), "--operator", "Inpainting", "--operator.keep=0.5"]) == 0
    drawn = ["--operator=DrawnOperator", "--operator.operator", "Inpainting", "--operator.operator.keep=0.5"]
    sizes = ["--operator.operator.height=8", "--operator.operator.width=8", "--operator.ranges.keep=[0.3,0.4]"]
    assert main([*evaluate, str(other), *drawn, *sizes]) == 0
    assert not [warning for warning in recwarn if "alone" in str(warning.message)]
    capsys.readouterr()
    fixed = ["--operator.mask.ratio=0.2", "--operator.height=66", "--operator.width=66"]
    assert "images must be (batch, channel, 66, 66), got" in errors(capsys, *evaluate, str(other), *radial, *fixed)
    with pytest.raises(SystemExit):
        main([*evaluate, str(other), "--operator=Inpainting", "--operator.kept=0.5"])
    assert "'kept' is not accepted" in capsys.readouterr().err


def test_a_penalty_can_be_chosen_in_the_config(train, tmp_path):
    (tmp_path / "penalty.yaml").write_text(
        "network:\n  class_path: EPGN\n"
        "  init_args: {phases: 1, features: 2, penalty: {class_path: MCP, init_args: {b: 3}}}\n"
        "operator: {class_path: BlockCompressedSensing, init_args: {ratio: 0.1}}\n"
    )
    assert train(config=tmp_path / "penalty.yaml") == 0
    network, _ = unrolled.load(tmp_path / "run" / "best.safetensors")
    assert network.phases[0].prox.shrinkage.penalty.b == 3


def test_training_starts_from_given_weights(train, tmp_path, capsys):
    first, second = (tmp_path / name for name in ("first", "second"))
    assert train(folder="first") == 0
    given = f"--weights={first / 'best.safetensors'}"
    assert train("--training.learning_rate=1e-12", "--training.average=0", "--seed=1", given, folder="second") == 0
    trained = unrolled.load(first / "best.safetensors")[0].state_dict()
    for name, weight in unrolled.load(second / "best.safetensors")[0].state_dict().items():
        torch.testing.assert_close(weight, trained[name], rtol=0, atol=1e-9)
    capsys.readouterr()
    assert train(given, "--network.features=3", folder="third") == 1
    assert (
        "has (2, 2, 3, 3) for network.phases.0.prox.sparsify.conv.weight, and what is trained has (3, 3, 3, 3)"
        in capsys.readouterr().err
    )


def test_how_to_differentiate_can_be_chosen_on_the_command_line(train, tmp_path):
    way = ["--network.shared=true", "--network.differentiation=Implicit", "--network.differentiation.iterations=3"]
    assert train(*way) == 0
    network, _ = unrolled.load(tmp_path / "run" / "best.safetensors")
    assert network.differentiation == Implicit(iterations=3)


def test_print_config_shows_all_that_can_be_set(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--config", "configs/cs/epgn_25.yaml", "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["network"]["init_args"]["variant"] == "accelerated"
    assert config["training"]["clip"] == 1.0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("--training.velocity=3", "velocity"),
        ("--network.depth=3", "depth"),
        ("--training.steps=many", "steps"),
        ("--network.phases=two", "phases"),
        ("--network=UNet", "UNet"),
        ("--config=nowhere.yaml", "nowhere.yaml"),
    ],
)
def test_unknown_keys_and_wrong_types_are_refused(change, named, tmp_path, capsys):
    argv = ["train", "--config", "configs/cs/epgn_25.yaml", f"--folder={tmp_path / 'run'}", change]
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_unknown_keys_in_a_file_are_refused(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text((ROOT / "configs/cs/epgn_25.yaml").read_text() + "flavour: sweet\n")
    with pytest.raises(SystemExit):
        main(["train", "--config", str(tmp_path / "bad.yaml")])
    assert "flavour" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("--training.batch=-1", "batch must be"),
        ("--training.steps=5", "exactly one of"),
        ("--operator.ratio=-0.1", "ratio must be"),
        ("--network.phases=-1", "phases must be"),
        ("--data.crop=50", "multiple of 33"),
        ("--data.train=[nowhere]", "no folder nowhere"),
        ("--seed=-1", "seed must be"),
        ("--threads=0", "threads must be"),
        ("--device=abacus", "device"),
    ],
)
def test_values_that_cannot_be_are_refused(change, named, tmp_path, capsys):
    argv = ["train", "--config", "configs/cs/epgn_25.yaml", f"--folder={tmp_path / 'run'}", change]
    assert named in errors(capsys, *argv)


def test_evaluate_writes_what_it_prints(weights, tmp_path, capsys):
    write_picture(tmp_path / "data" / "a.png", 40, 50)
    write_picture(tmp_path / "data" / "odd.jpg", 31, 77, mode="RGB")
    argv = ["evaluate", "--weights", weights, "--data", str(tmp_path / "data"), "--json", str(tmp_path / "r.json")]
    assert main([*argv, "--record", "mine"]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert {"psnr", "ssim", "start_psnr", "peak", "images"} == set(result)
    assert [row["name"] for row in result["images"]] == ["a.png", "odd.jpg"]
    assert {"name", "psnr", "ssim", "seconds"} <= set(result["images"][0])
    out = capsys.readouterr().out
    assert f"{result['psnr']:.2f}" in out.splitlines()[-2]
    assert out.splitlines()[-1] == f"PSNR's peak is {result['peak']}."
    assert main(["zoo", weights]) == 0
    assert json.loads(capsys.readouterr().out)["evaluation"]["mine"]["psnr"] == pytest.approx(result["psnr"], abs=1e-4)


def test_figures_are_not_recorded_in_the_installation(photos, capsys):
    said = errors(capsys, "evaluate", "--weights", "epgn-cs25-small", "--data", str(photos), "--record", "mine")
    assert "record: is kept in a file of weights, got the shipped 'epgn-cs25-small'; copy " in said


def test_names_of_files_need_not_be_text(weights, tmp_path, capsys):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/data/\xff.png"))
    write_picture(path, 40, 50)
    assert main(["evaluate", "--weights", weights, "--data", str(path.parent)]) == 0
    assert r"\udcff.png" in capsys.readouterr().out


def test_reconstruct_writes_its_pictures(weights, tmp_path, capsys):
    write_picture(tmp_path / "photo.jpg", 40, 50, mode="RGB")
    out = tmp_path / "new folder" / "photo.png"
    assert (
        main(["reconstruct", str(tmp_path / "photo.jpg"), "--weights", weights, "--out", str(out), "--iterates"]) == 0
    )
    assert size_and_mode(out) == ((50, 40), "L")
    assert {path.name for path in out.parent.iterdir()} == {"photo.png", "photo-comparison.png", "photo-iterates.png"}
    assert "dB" in capsys.readouterr().out
    color = ["reconstruct", str(tmp_path / "photo.jpg"), "--weights", weights, "--out", str(out), "--color"]
    assert main(color) == 0
    assert size_and_mode(out) == ((50, 40), "RGB")


def test_tiles_and_large_images_give_the_same_picture(weights, tmp_path, capsys, monkeypatch):
    write_picture(tmp_path / "photo.png", 70, 90)
    argv = ["reconstruct", str(tmp_path / "photo.png"), "--weights", weights]
    assert main([*argv, "--out", str(tmp_path / "whole.png")]) == 0
    assert main([*argv, "--out", str(tmp_path / "tiles.png"), "--tile", "22"]) == 0
    assert main([*argv, "--out", str(tmp_path / "half.png"), "--bfloat16", "true"]) == 0
    whole, tiles, half = (
        np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int) for name in ("whole", "tiles", "half")
    )
    assert np.abs(whole - tiles).max() <= 1  # where a number lies between two levels
    assert (whole != tiles).mean() < 0.001
    assert np.abs(whole - half).mean() < 2
    capsys.readouterr()
    monkeypatch.setattr("unrolled.cli.reconstruct.WHOLE", 100)
    assert main([*argv, "--out", str(tmp_path / "large.png")]) == 0
    assert "no comparison" in capsys.readouterr().out
    assert not (tmp_path / "large-comparison.png").exists()
    assert "tile: must be a whole number >= 1" in errors(capsys, *argv, "--out", str(tmp_path / "x.png"), "--tile", "0")


def test_reconstruct_takes_measurements(weights, tmp_path):
    _, operator = unrolled.load(weights)
    np.save(tmp_path / "y.npy", operator(picture(44, 55).unsqueeze(0)).numpy())
    argv = ["reconstruct", "--measured", str(tmp_path / "y.npy"), "--weights", weights]
    assert main([*argv, "--out", str(tmp_path / "x.png"), "--size", "[40,50]"]) == 0
    assert size_and_mode(tmp_path / "x.png") == ((50, 40), "L")


def test_bad_input_is_refused_before_any_work(weights, tmp_path, capsys):
    write_picture(tmp_path / "photo.png")
    write_picture(tmp_path / "one.png", 1, 1)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "y.npy", np.ones((1, 1, 7, 1, 1)))
    photo, out = str(tmp_path / "photo.png"), str(tmp_path / "out.png")
    y = str(tmp_path / "y.npy")
    for argv, message in [
        (["evaluate", "--weights", weights, "--data", str(tmp_path / "empty")], "holds no images"),
        (["evaluate", "--weights", weights, "--data", str(tmp_path / "nowhere")], "no folder"),
        (["evaluate", "--weights", photo, "--data", photo], "not a safetensors file"),
        (["evaluate", "--weights", "no-such", "--data", photo], "neither a file nor"),
        (["evaluate", "--weights", weights, "--data", photo, "--device", "abacus"], "device: 'abacus'"),
        (["evaluate", "--weights", weights, "--data", photo, "--json", str(tmp_path)], "cannot write"),
        (["reconstruct", photo, "--weights", weights, "--out", f"{photo}/x.png"], "cannot write"),
        (["reconstruct", photo, "--weights", weights, "--out", str(tmp_path / "x.doc")], "must end in one of"),
        (["reconstruct", str(tmp_path / "broken.png"), "--weights", weights, "--out", out], "broken.png"),
        (["reconstruct", str(tmp_path / "one.png"), "--weights", weights, "--out", out], "at least 7 pixels"),
        (["reconstruct", "--weights", weights, "--out", out], "an image or --measured"),
        (["reconstruct", "--measured", y, "--weights", weights, "--out", out], "measurements must be"),
    ]:  # fmt: skip
        assert message in errors(capsys, *argv), argv
    assert not Path(out).exists()


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(train, tmp_path, capsys):
    ended = threading.Event()

    def interrupt():
        while not (tmp_path / "run" / "last.pt").exists():
            if ended.wait(0.02):
                return
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        assert train("--training.steps=100000", "--training.validations=100000") == 130
    finally:
        ended.set()
        thread.join()
    config = tmp_path / "run" / "config.yaml"
    assert f"stopped; go on with: unrolled train --config {config} --resume" in capsys.readouterr().err
    assert (tmp_path / "run" / "last.pt").exists()


def test_zoo_lists_the_shipped_weights(capsys):
    assert main(["zoo"]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line for line in out.splitlines()[1:] if line}
    assert all(name in rows for name in unrolled.weights.card.names())
    assert "compressive sensing  BlockCompressedSensing(ratio=0.25)  EPGN" in rows["epgn-cs25"]
    assert rows["epgn-cs25"].endswith("224,664    941       32.85 (Set11)")


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"unrolled {version('unrolled')}\n"


def test_ctrl_c_ends_a_command_in_a_line(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("unrolled.cli.zoo.run", interrupted)
    assert main(["zoo"]) == 130
    assert capsys.readouterr().err == "\nunrolled zoo: interrupted\n"


def test_a_scale_is_told_on_the_command_line(weights, tmp_path, capsys):
    levels = (255 * picture(40, 50)[0]).round().numpy()
    (tmp_path / "data").mkdir()
    Image.fromarray(levels.astype(np.uint8)).save(tmp_path / "data" / "a.png")
    Image.fromarray(levels.astype(np.uint16) * 16).save(tmp_path / "twelve.png")
    with h5py.File(tmp_path / "ct.h5", "w") as file:
        file["hu"] = levels[None].astype(np.int16) * 16 - 1024
    found = []
    for data, *scale in (("data",), ("twelve.png", "4080"), ("ct.h5", "[-1024,3056]"), ("twelve.png", "100%")):
        argv = ["evaluate", "--weights", weights, "--data", str(tmp_path / data), "--json", str(tmp_path / "r.json")]
        assert main([*argv, *(("--scale", *scale) if scale else ())]) == 0
        found.append(json.loads((tmp_path / "r.json").read_text())["psnr"])
    assert found[1:3] == pytest.approx([found[0]] * 2, abs=0.01)
    capsys.readouterr()
    for argv, said in [
        (["evaluate", "--weights", weights, "--data", str(tmp_path / "ct.h5")], "whose white is not known; give scale"),
        (
            ["evaluate", "--weights", weights, "--data", str(tmp_path / "twelve.png")],
            "so it is probably in other units",
        ),
        (
            ["reconstruct", str(tmp_path / "twelve.png"), "--weights", weights, "--out", str(tmp_path / "x.png")],
            "other units",
        ),
        (["robustness", "--weights", weights, "--data", str(tmp_path / "twelve.png")], "other units"),
        (["data", "prepare", str(tmp_path / "twelve.png"), "--out", str(tmp_path / "x.h5")], "other units"),
    ]:
        assert said in errors(capsys, *argv)
        assert not (tmp_path / "x.h5").exists()
    out = tmp_path / "x.png"
    argv = ["reconstruct", str(tmp_path / "twelve.png"), "--weights", weights, "--out", str(out), "--scale", "4080"]
    assert main([*argv, "--iterates"]) == 0
    assert "its peak is white = 4080" in capsys.readouterr().out
    assert (
        main(["data", "prepare", str(tmp_path / "twelve.png"), "--out", str(tmp_path / "x.h5"), "--scale", "4080"]) == 0
    )
    (image,) = open_images(tmp_path / "x.h5")
    np.testing.assert_allclose(to_float(image.read())[0], levels / 255, atol=1e-6)


def test_training_takes_a_scale_from_its_config(tmp_path, capsys):
    with h5py.File(tmp_path / "ct.h5", "w") as file:
        file["hu"] = np.stack([4095 * picture(40, 44, seed)[0].numpy() - 1024 for seed in range(3)]).astype(np.int16)
    argv = ["train", "--network", "EPGN", "--network.phases", "1", "--network.features", "2", "--operator"]
    argv += [
        "BlockCompressedSensing",
        "--operator.ratio",
        "0.25",
        "--operator.block",
        "11",
        "--data.train",
        f"[{tmp_path / 'ct.h5'}]",
    ]
    argv += ["--data.hold_out", "1", "--data.crop", "22", "--training.steps", "1", "--training.batch", "1"]
    argv += ["--folder", str(tmp_path / "run")]
    assert "whose white is not known; give scale" in errors(capsys, *argv)
    assert main([*argv, "--data.scale", "[-1024,3071]"]) == 0
    assert "scale:" in (tmp_path / "run" / "config.yaml").read_text()


def test_no_command_writes_over_its_input(weights, tmp_path, capsys):
    photo = write_picture(tmp_path / "a.png", 33, 33)
    beside = write_picture(tmp_path / "b-comparison.png", 33, 33)
    before = {path: path.read_bytes() for path in (photo, beside, Path(weights))}
    for argv in (
        ("reconstruct", str(photo), "--out", str(photo), "--weights", weights),
        ("reconstruct", str(beside), "--out", str(tmp_path / "b.png"), "--weights", weights),
        ("evaluate", "--weights", weights, "--data", str(photo), "--json", weights),
        ("evaluate", "--weights", weights, "--data", str(photo), "--json", str(photo)),
        ("robustness", "--weights", weights, "--data", str(tmp_path), "--out", str(photo)),
    ):
        assert "it is an input" in errors(capsys, *argv)
    assert {path: path.read_bytes() for path in before} == before


def test_pictures_that_another_made_are_not_written_over(weights, tmp_path, capsys):
    photo, out = str(write_picture(tmp_path / "a.png", 33, 33)), tmp_path / "b.png"
    argv = ("reconstruct", photo, "--out", str(out), "--weights", weights)
    beside = write_picture(tmp_path / "b-comparison.png", 33, 33)
    before = beside.read_bytes()
    assert "b-comparison.png: it was not written by unrolled; move it away" in errors(capsys, *argv)
    assert beside.read_bytes() == before
    assert not out.exists()
    beside.unlink()
    assert main([*argv]) == main([*argv]) == 0  # what it wrote itself is replaced


def test_a_full_disk_leaves_the_card_as_it_is(weights, photos, capsys):
    before = Path(weights).read_bytes()
    with file_size_limit(len(before) // 2):
        said = errors(capsys, "evaluate", "--weights", weights, "--data", str(photos), "--record", "mine")
    assert f"cannot write {weights}: " in said
    assert Path(weights).read_bytes() == before
    assert not list(Path(weights).parent.glob(".partial-*"))
