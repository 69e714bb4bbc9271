"""The kinds of files that the project reads, for `tests.fuzz`: a kind more is an entry more in the table below."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
import torch
import yaml
from PIL import Image

import unrolled
from tests.fuzz import Kind, command
from tests.helpers import picture
from tests.mutations import npy_header, png_checksums, safetensors_header, words, zip_member
from unrolled.data import read_image
from unrolled.networks import EPGN, ISTANetPlus
from unrolled.operators import BlockCompressedSensing, Dense
from unrolled.operators.matrix import read_matrix
from unrolled.penalties import MCP
from unrolled.training import Loop, TrainingOptions
from unrolled.training.reconstruction import ReconstructionTask

GREY = (picture(20, 24)[0].numpy() * 255).round().astype(np.uint8)
COLOR = np.dstack([GREY, GREY[::-1], 255 - GREY])
MODES = {"png": ("1", "L", "LA", "P", "RGB", "RGBA"), "jpg": ("L", "RGB", "CMYK"), "webp": ("RGB", "RGBA"),
         "gif": ("L", "P"), "bmp": ("1", "L", "P", "RGB"), "pgm": ("1", "L", "RGB"),
         "tif": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "YCbCr")}  # fmt: skip


def write_images(suffix: str):
    def write(folder: Path) -> None:
        for mode in MODES[suffix]:
            image = (
                Image.new("LAB", (24, 20), (90, 120, 140)) if mode == "LAB" else Image.fromarray(COLOR).convert(mode)
            )
            image.save(folder / f"{mode}.{suffix}")
        image = Image.fromarray(GREY)
        exif = image.getexif()
        exif[0x0112] = 6
        if suffix in ("png", "jpg", "webp", "tif"):
            image.save(folder / f"turned.{suffix}", exif=exif)
        if suffix in ("png", "gif", "webp", "tif"):
            image.save(folder / f"moving.{suffix}", save_all=True, append_images=[Image.fromarray(255 - GREY)])
        if suffix in ("png", "pgm"):
            Image.fromarray(GREY.astype(np.uint16) * 257).save(folder / f"deep.{suffix}")
        if suffix == "tif":
            tifffile.imwrite(folder / "deep.tif", GREY.astype(np.uint16) * 257)
            tifffile.imwrite(folder / "float.tif", (GREY / 255).astype(np.float32))
            for compression in ("tiff_lzw", "tiff_deflate", "jpeg"):
                image.save(folder / f"{compression}.tif", compression=compression)

    return write


def open_image(path: Path) -> None:
    for color in (False, True):
        with pytest.MonkeyPatch.context() as patch:  # or else a header alone could ask for seconds of work
            patch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
            image = read_image(path, color)
        assert image.dtype == torch.float32
        assert image.ndim == 3
        assert len(image) == (3 if color else 1)
        assert 0 <= image.min() <= image.max() <= 1


MATRIX = np.random.default_rng(0).normal(size=(4, 9))


def write_npy(folder: Path) -> None:
    np.save(folder / "double.npy", MATRIX)
    np.save(folder / "single.npy", MATRIX.astype(np.float32))
    np.save(folder / "complex.npy", MATRIX * 1j)
    np.save(folder / "columns.npy", np.asfortranarray(MATRIX))
    whole = (folder / "double.npy").read_bytes()
    (folder / "objects.npy").write_bytes(whole.replace(b"'<f8'", b"'|O' ")[:128] + pickle_with_code())


def pickle_with_code() -> bytes:
    class Code:
        def __reduce__(self):
            import os

            return os.system, ("touch canary",)

    return pickle.dumps(Code())


def write_mat(folder: Path) -> None:
    scipy.io.savemat(folder / "five.mat", {"phi": MATRIX})
    scipy.io.savemat(folder / "small.mat", {"phi": MATRIX, "note": "text"}, do_compression=True)
    scipy.io.savemat(folder / "four.mat", {"phi": MATRIX}, format="4")
    scipy.io.savemat(folder / "mixed.mat", {"phi": MATRIX, "s": {"a": 1}, "c": np.array([1, "a"], dtype=object)})


def write_h5(suffix: str):
    def write(folder: Path) -> None:
        for name, options in {"plain": {}, "zip": {"compression": "gzip", "shuffle": True}}.items():
            with h5py.File(folder / f"{name}.{suffix}", "w") as file:
                file.create_dataset("phi", data=MATRIX, **options)
        with h5py.File(folder / f"links.{suffix}", "w", libver="latest") as file:
            file["phi"] = MATRIX
            file["soft"] = h5py.SoftLink("/phi")
            file["away"] = h5py.ExternalLink("elsewhere.h5", "x")
            file.create_group("group")["inside"] = 1

    return write


def open_matrix(path: Path) -> None:
    matrix = read_matrix(path)
    assert matrix.dtype in (torch.float64, torch.complex128)
    assert matrix.ndim == 2
    assert torch.isfinite(matrix).all()


def small_pair() -> tuple[EPGN, BlockCompressedSensing]:
    torch.manual_seed(0)
    return EPGN(1, 2), BlockCompressedSensing(ratio=0.2, block=5)


def write_measurements(folder: Path) -> None:
    _, operator = small_pair()
    np.save(folder / "y.npy", operator(picture(10, 15).unsqueeze(0)).numpy())
    np.save(folder / "color.npy", operator(torch.rand(1, 3, 10, 15)).numpy())


def reconstruct(path: Path) -> None:
    weights = path.parent.parent / "pair.safetensors"
    if not weights.exists():
        unrolled.save(weights, *small_pair())
    out = path.with_name("out.png")
    command("reconstruct", "--measurements", str(path), "--weights", str(weights), "--out", str(out))
    read_image(out)
    out.unlink()


def write_weights(folder: Path) -> None:
    unrolled.save(folder / "drawn.safetensors", *small_pair())
    learned = BlockCompressedSensing(ratio=0.2, block=5, learned=True)
    unrolled.save(folder / "learned.safetensors", ISTANetPlus(1, 2), learned, {"data": "pictures"})
    dense = Dense(torch.rand(9, 100), 10, 10)
    unrolled.save(folder / "dense.safetensors", EPGN(2, 2, penalty=MCP(1.5, 2.0), shrink_channels=True), dense)


def open_weights(path: Path) -> None:
    network, operator = unrolled.load(path)
    side = operator.height if isinstance(operator, Dense) else 2 * operator.multiple
    with torch.no_grad():
        x = network(operator(torch.rand(1, 1, side, side)), operator)
    assert x.shape == (1, 1, side, side)


def loop(folder: Path) -> Loop:
    network, operator = small_pair()
    task = ReconstructionTask(network, operator, unrolled.data.RandomCrops([picture(20, 20)], 10), [picture(10, 10)])
    return Loop(task, TrainingOptions(steps=2, batch=1), folder, progress=False)


def write_checkpoint(folder: Path) -> None:
    trained = loop(folder)
    trained.run()
    for path in folder.iterdir():
        if path.name != "last.pt":
            path.unlink()
    torch.save({"step": 1, "model": {}}, folder / "other.pt")


def resume(path: Path) -> None:
    last = path.rename(path.with_name("last.pt"))
    try:
        state = loop(path.parent)
        state.load()
        assert isinstance(state.step, int)
    finally:
        last.rename(path)


def write_config(folder: Path) -> None:
    root = Path(__file__).parent.parent / "configs"
    for index, path in enumerate(sorted(root.rglob("*.yaml"))):
        (folder / f"{index}.yaml").write_bytes(path.read_bytes())
    (folder / "penalty.yaml").write_text(
        "network: {class_path: EPGN, init_args: {phases: 1, penalty: {class_path: MCP, init_args: {b: 3}}}}\n"
        "operator: {class_path: BlockCompressedSensing, init_args: {ratio: 0.1}}\ntraining: {steps: 1}\n"
    )


def print_config(path: Path) -> None:
    printed = yaml.safe_load(command("train", "--config", str(path), "--print_config"))
    assert {"network", "operator", "data", "training"} <= set(printed)


KINDS = {
    "png": Kind(write_images("png"), open_image, (png_checksums,)),
    "jpeg": Kind(write_images("jpg"), open_image),
    "tiff": Kind(write_images("tif"), open_image),
    "webp": Kind(write_images("webp"), open_image),
    "gif": Kind(write_images("gif"), open_image),
    "bmp": Kind(write_images("bmp"), open_image),
    "pgm": Kind(write_images("pgm"), open_image),
    "npy": Kind(write_npy, open_matrix, (npy_header,)),
    "mat": Kind(write_mat, open_matrix),
    "mat73": Kind(write_h5("mat"), open_matrix),
    "h5": Kind(write_h5("h5"), open_matrix),
    "measurements": Kind(write_measurements, reconstruct, (npy_header,)),
    "weights": Kind(write_weights, open_weights, (safetensors_header,)),
    "checkpoint": Kind(write_checkpoint, resume, (zip_member,)),
    "config": Kind(write_config, print_config, (words,)),
}
