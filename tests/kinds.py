"""The kinds of files that the project reads, for `tests.fuzz`: a kind more is an entry more in the table below."""

import contextlib
import io
import json
import pickle
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
import torch
import yaml
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, RLELossless

import unrolled
from tests import bombs, raw_files
from tests.fuzz import Kind, command
from tests.helpers import picture, write_picture
from tests.lying_headers import (
    bomb,
    card_sizes,
    exif_orientation,
    first_numbers,
    hdf5_sets,
    heaps,
    jpeg_frame,
    mat_numbers,
    mat_packed,
    png_header,
    png_pixels,
    raw_heads,
    tar_header,
    tiff_tag,
)
from tests.mutations import (
    checkpoint_member,
    checkpoint_state,
    npy_header,
    png_checksums,
    safetensors_header,
    settings,
    words,
    zip_or_words,
)
from tests.volumes import dicom, nifti
from unrolled.classifiers import Classifier, LeNet300100
from unrolled.data import open_images, prepare_images, read_image
from unrolled.data.dicom import open_series
from unrolled.data.kspace_files import read_kspace, volume_facts
from unrolled.data.labelled_sources import read_labelled
from unrolled.data.nifti import open_nifti
from unrolled.data.shard_index import Shard, read_index, save_index
from unrolled.data.slices import Volume
from unrolled.data.stores import FileImage, to_float
from unrolled.data.tar_images import images_in_tar
from unrolled.figures.training_curves import training_curve
from unrolled.networks import EPGN, ISTANetPlus
from unrolled.operators import BlockCompressedSensing, Dense, Identity, LowResolution
from unrolled.operators.matrix import read_matrix
from unrolled.penalties import MCP
from unrolled.reconstruction.mri import kspace_operator, reconstruct_kspace, zero_fill
from unrolled.system.cfl import write_cfl
from unrolled.system.scales import ROUNDING
from unrolled.training import Loop, TrainingOptions
from unrolled.training.tasks.reconstruction import ReconstructionTask
from unrolled.weights import convert, load_classifier, save_classifier
from unrolled.weights.networks import only_by_programs

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
            assert FileImage(path, color).shape == image.shape
        assert image.dtype == torch.float32
        assert image.ndim == 3
        assert len(image) == (3 if color else 1)
        assert -ROUNDING <= image.min() <= image.max() <= 1 + ROUNDING


def read_freely(path: Path) -> None:
    read_image(path, color=True)


def write_tiff_of_numbers(folder: Path) -> None:
    for kind in (np.float16, np.float64, np.int32):
        tifffile.imwrite(folder / f"{np.dtype(kind)}.tif", GREY.astype(kind))
    tifffile.imwrite(folder / "zip.tif", GREY.astype(np.float64), compression="deflate")
    for name, kind in {"color": np.float32, "planes": np.float64}.items():
        how = {"planarconfig": "separate"} if name == "planes" else {}
        pixels = np.moveaxis(COLOR, -1, 0) if name == "planes" else COLOR
        tifffile.imwrite(folder / f"{name}.tif", pixels.astype(kind), photometric="rgb", **how)


def open_numbers(path: Path) -> None:
    """Read with a scale, so that all but the layout is taken."""
    for color in (False, True):
        image = read_image(path, color, scale="max")
        assert image.dtype == torch.float32
        assert image.shape[0] == (3 if color else 1)
        assert bool(torch.isfinite(image).all())
        assert FileImage(path, color, "max").shape == image.shape


def write_scaled_h5(folder: Path) -> None:
    wave = GREY[None] * np.exp(1j * GREY / 50)
    for name, numbers in {
        "ct": 8 * GREY[None].astype(np.int16),
        "wave": wave.astype(np.complex64),
        "pairs": np.rec.fromarrays([wave.real, wave.imag], names="real, imag"),
    }.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["images"] = numbers


def open_scaled_h5(path: Path) -> None:
    for image in open_images(path, key="images", scale="max")[:3]:
        window = to_float(image.read(slice(2, 9), slice(3, 8)))
        assert window.shape[0] == 1
        assert bool(torch.isfinite(torch.view_as_real(window) if window.is_complex() else window).all())
        assert float(window.abs().max()) <= 1 + 1e-6


def write_image_h5(folder: Path) -> None:
    originals = folder.parent / "originals"
    originals.mkdir()
    for index, image in enumerate([GREY, 255 - GREY, COLOR, GREY[:9], GREY.astype(np.uint16) * 257]):
        Image.fromarray(image).save(originals / f"{index}.png")
    prepare_images([originals], folder / "grey.h5", progress=False)
    prepare_images([originals], folder / "color.h5", color=True, licence="public domain", progress=False)
    prepare_images([originals], folder / "half.h5", shards=2, progress=False)
    (folder / "half-2-of-2.h5").unlink()
    stack = np.stack([GREY, 255 - GREY, GREY // 2])
    for name, pixels, options in [
        ("bytes", stack, {}),
        ("deep", stack.astype(np.uint16)[:, None] * 257, {"chunks": (1, 1, 10, 12)}),
        ("float", np.float32(stack / 255), {"compression": "gzip", "shuffle": True, "fletcher32": True}),
        ("last", np.float16(np.stack([COLOR, COLOR]) / 255), {"chunks": (1, 8, 8, 3), "compression": "lzf"}),
    ]:
        with h5py.File(folder / f"{name}.h5", "w", libver="latest" if name == "last" else None) as file:
            file.create_dataset("group/images", data=pixels, **options)
            file["labels"] = np.arange(3)
            file["note"] = "text"
            file["soft"] = h5py.SoftLink("/labels")
            file["away"] = h5py.ExternalLink("elsewhere.h5", "x")


def open_image_h5(path: Path) -> None:
    for color in (False, True):
        images = open_images(path, color=color)
        assert images
        for image in [*images[:5], *images[-2:]]:
            channel, height, width = image.shape
            assert channel == (3 if color else 1)
            top, left = height // 2, width // 3
            crop = to_float(image.read(slice(top, top + 8), slice(left, left + 8)))
            assert crop.shape == (channel, min(8, height - top), min(8, width - left))
            shown = crop.abs() if crop.is_complex() else crop
            assert 0 <= shown.min() <= shown.max() <= 1 + 1e-5
            if height * width < 10**5:  # not the same pixels: damaged lzf may end early, the rest is then arbitrary
                assert image.read().shape == image.shape


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


def write_dicom(folder: Path) -> None:
    deep = GREY.astype(np.uint16) * 8
    group = {"SharedFunctionalGroupsSequence": [Dataset()]}
    group["SharedFunctionalGroupsSequence"][0].PixelMeasuresSequence = [Dataset()]
    group["SharedFunctionalGroupsSequence"][0].PixelMeasuresSequence[0].PixelSpacing = [1, 1]
    for name, (pixels, entries) in {
        "bytes": (GREY, {}),
        "ct": (deep, {"RescaleSlope": "2", "RescaleIntercept": "-1024", "BitsStored": 12, "HighBit": 11}),
        "signed": (deep.astype(np.int16), {}),
        "inverted": (deep, {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}),
        "big": (deep, {"syntax": ExplicitVRBigEndian}),
        "runs": (deep, {"syntax": RLELossless}),
        "frames": (np.stack([deep, deep]), {"frames": 2, **group}),
    }.items():
        (folder / f"{name}.dcm").write_bytes(dicom(pixels, **entries))


def write_nifti(folder: Path) -> None:
    volume = np.stack([GREY, 255 - GREY]).transpose(2, 1, 0)
    for name, array, how in [
        ("bytes", volume, {}),
        ("scaled", volume.astype(np.int16), {"slope": 2, "inter": 24}),
        ("double", volume / 255, {"second": True}),
        ("complex", (volume * 1j).astype(np.complex64), {"packed": True}),
    ]:
        (folder / f"{name}.nii{'.gz' * how.get('packed', False)}").write_bytes(nifti(array, **how))


def open_dicom(path: Path) -> None:
    for volume in open_series([path], scale="max"):
        look_at(volume)


def look_at(volume: Volume) -> None:
    assert volume.affine is None or np.isfinite(volume.affine).all()
    for image in [*volume.images[:3], *volume.images[-1:]]:
        pixels, span = image.with_range()
        assert pixels.shape == image.shape
        assert bool(torch.isfinite(torch.view_as_real(pixels) if pixels.is_complex() else pixels).all())
        assert float(pixels.abs().max()) <= 1 + 1e-6
        assert span.given


def small_pair() -> tuple[EPGN, BlockCompressedSensing]:
    torch.manual_seed(0)
    return EPGN(1, 2), BlockCompressedSensing(ratio=0.2, block=5)


def write_foreign(folder: Path) -> None:
    torch.manual_seed(0)
    shapes = {"in_conv": (2, 1, 3, 3), "conv_list.0": (2, 2, 3, 3), "out_conv": (1, 2, 3, 3)}
    state = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    torch.save(state, folder / "new.pth")
    torch.save({"state_dict": {f"module.{key}": part for key, part in state.items()}, "epoch": 3}, folder / "more.pth")
    torch.save(state, folder / "older.pth", _use_new_zipfile_serialization=False)


def open_foreign(path: Path) -> None:
    converted = convert(path, "deepinv-dncnn", licence="MIT")
    with torch.no_grad():
        assert converted.network(torch.zeros(1, converted.network.phases[0].prior.channels, 6, 7), Identity()).ndim == 4


def write_measurements(folder: Path) -> None:
    _, operator = small_pair()
    np.save(folder / "y.npy", operator(picture(10, 15).unsqueeze(0)).numpy())
    np.save(folder / "color.npy", operator(torch.rand(1, 3, 10, 15)).numpy())


def reconstruct(path: Path) -> None:
    weights = path.parent.parent / "pair.safetensors"
    if not weights.exists():
        unrolled.save(weights, *small_pair())
    out = path.with_name("out.png")
    command("reconstruct", "--measured", str(path), "--weights", str(weights), "--out", str(out))
    read_image(out)
    out.unlink()


def drawn_kspace() -> np.ndarray:
    parts = np.random.default_rng(0).normal(size=(2, 3, 2, 12, 10))
    y = (parts[0] + 1j * parts[1]).astype(np.complex64)
    y[..., 5:8, 4:7] *= 30  # the energy of images lies around the zero frequency
    return y


def write_kspace(folder: Path) -> None:
    np.save(folder / "one.npy", drawn_kspace()[0, 0])
    np.save(folder / "coils.npy", drawn_kspace()[0].astype(np.complex128))
    np.save(folder / "stack.npy", drawn_kspace())


def write_kspace_h5(folder: Path) -> None:
    y = drawn_kspace()
    mask = np.array([0, 1, 0, 1, 1, 1, 1, 1, 0, 1])
    truth = np.abs(y[:, 0, :8, :8])
    for name, options in {"plain": {}, "zip": {"compression": "gzip", "chunks": (1, 2, 12, 10)}}.items():
        with h5py.File(folder / f"{name}.h5", "w", libver="latest" if name == "zip" else None) as file:
            file.create_dataset("kspace", data=y * mask, **options)
            file["mask"], file["reconstruction_rss"] = mask, truth
            file.attrs["acquisition"], file.attrs["patient_id"], file.attrs["max"] = "drawn", np.bytes_("x"), 1.0
            file["ismrmrd_header"] = raw_files.header(image=(6, 6))
    with h5py.File(folder / "one.h5", "w") as file:
        file["kspace"], file["reconstruction_esc"] = y[:, 0], truth
        file["away"] = h5py.ExternalLink("elsewhere.h5", "x")


def write_cfl_pairs(folder: Path) -> None:
    """Of each pair, whose other half `open_cfl_pair` makes again."""
    write_cfl(folder / "y.cfl", drawn_kspace(), "slice, coil, height, width")


def open_cfl_pair(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_cfl_pairs(Path(folder))
        half = Path(folder, "y").with_suffix(path.suffix)
        half.write_bytes(path.read_bytes())
        open_kspace(half.with_suffix(".cfl"))


def write_raw_files(folder: Path) -> None:
    y = drawn_kspace()
    text = raw_files.header(encoded=(12, 10), image=(6, 8), field=(400, 250), center=5, last=9)
    lines = [line for number in (0, 1) for line in raw_files.lines_of(y[number], slice=number)]
    raw_files.write_raw(folder / "whole.h5", lines, text)
    noise = raw_files.readout(y[0, :, :, 0], 0, [19])
    raw_files.write_raw(folder / "part.h5", [noise, *lines[3:10]], text)
    solid = [raw_files.readout(y[0, :1, :, step], step // 4, kspace_encode_step_2=step % 4) for step in range(10)]
    text = raw_files.header(encoded=(12, 3), image=(6, 3), depth=4, center=1, last=2)
    raw_files.write_raw(folder / "solid.h5", solid, text)


def open_kspace(path: Path) -> None:
    with contextlib.suppress(ValueError):  # what the file states may be damaged where its numbers are not
        assert volume_facts(path).slices > 0
    try:
        kspace = read_kspace(path)
    except ValueError as error:
        if "give axes" not in str(error):
            raise
        kspace = read_kspace(path, axes="coil, height, width")
    coils, height, width = kspace.y.shape
    assert kspace.y.dtype == torch.complex64
    assert kspace.mask.shape == (height, width)
    assert 0 < kspace.ratio <= 1
    assert kspace.truth is None or bool(torch.isfinite(kspace.truth).all())
    if coils * height * width > 10**5:
        return
    maps = LowResolution() if coils > 1 else None  # for numbers that are drawn have no maps by ESPIRiT
    image = reconstruct_kspace(kspace, zero_fill, kspace_operator(kspace, maps=maps))
    assert image.shape == (height, width)
    assert torch.isfinite(image).all()


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


def write_cards(folder: Path) -> None:
    """Weights of every operator and network whose laws are tested, and of a classifier, if a file can hold them."""
    from tests.networks.test_laws import every_law as network_laws
    from tests.operators.test_laws import every_law as operator_laws

    network, identity = EPGN(1, 2), Identity()
    for law in operator_laws():
        pairs = ({"network": network, "operator": make()[0].float()} for make in law.cases.values())
        _save_first(folder / f"{law.operator_class.__name__}.safetensors", pairs)
    for law in network_laws():
        pairs = ({"network": make().float(), "operator": identity} for make in law.cases.values())
        _save_first(folder / f"{law.network_class.__name__}.safetensors", pairs)


def _save_first(path: Path, pairs: Iterable[dict[str, Any]]) -> None:
    found = next((pair for pair in pairs if not only_by_programs(**pair)), None)
    if found is not None:
        unrolled.save(path, **found)


def open_card(path: Path) -> None:
    network, operator = unrolled.load(path)
    assert not network.training
    assert not operator.training


def write_classifier(folder: Path) -> None:
    classifier = Classifier(LeNet300100(size=9), [str(digit) for digit in range(10)], [0.5], [0.2], (9, 9))
    save_classifier(folder / "lenet.safetensors", classifier)


def open_classifier(path: Path) -> None:
    classifier = load_classifier(path)
    assert len(classifier.classes) > 0


def write_archive(folder: Path) -> None:
    jpeg = io.BytesIO()
    Image.fromarray(COLOR).save(jpeg, "JPEG")
    with tarfile.open(folder / "cifar10_jpeg.tar.gz", "w:gz") as archive:
        for name in ("train/cat/1.jpg", "train/dog/1.jpg", "test/cat/2.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(jpeg.getvalue())
            archive.addfile(member, io.BytesIO(jpeg.getvalue()))


def write_shard(folder: Path) -> None:
    with tarfile.open(folder / "set-1.tar", "w") as archive:
        for suffix, kind in (("jpg", "JPEG"), ("png", "PNG")):
            content = io.BytesIO()
            Image.fromarray(COLOR).save(content, kind)
            member = tarfile.TarInfo(f"0.{suffix}")
            member.size = len(content.getvalue())
            archive.addfile(member, io.BytesIO(content.getvalue()))


def open_shard(path: Path) -> None:
    for image in images_in_tar(path):
        assert float(to_float(image.read()).min()) >= 0


def write_index_of_shards(folder: Path) -> None:
    save_index([Shard("set-1.tar", 100, 3, "0" * 64), Shard("b/set-2.tar", 9, 1, "1" * 64)], folder / "set.json")


def open_index(path: Path) -> None:
    assert all(shard.images > 0 and ".." not in shard.name for shard in read_index(path))


def open_archive(path: Path) -> None:
    _, train, _ = read_labelled("CIFAR-10-JPEG", path)
    assert train.images.dtype == torch.uint8


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
        resumed = loop(path.parent)
        resumed._start(resume=True)
        assert isinstance(resumed.progress.step, int)
        resumed.task.validate(resumed.task.model)
    finally:
        last.rename(path)


def write_metrics(folder: Path) -> None:
    lines = [{"step": step, "steps": 9, "loss": 0.1 / step, "psnr": 20.5 + step, "start_psnr": 20.0, "skipped": 0,
              "learning_rate": 1e-3, "seconds": 0.5 * step} for step in range(1, 10, 2)]  # fmt: skip
    (folder / "run.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "cut.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines)[:-30])
    (folder / "nan.jsonl").write_text("".join(json.dumps({**line, "loss": float("nan")}) + "\n" for line in lines))


def go_on_with_metrics(path: Path) -> None:
    data = path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder, "metrics.jsonl")
        metrics.write_bytes(data)
        resumed = loop(Path(folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if zlib.crc32(data) % 8 == 0:  # drawing is slow
                training_curve(Path(folder))
            resumed.folder.drop_metrics_after(7)
        assert all(json.loads(line)["step"] <= 7 for line in metrics.read_bytes().splitlines())


def write_config(folder: Path) -> None:
    root = Path(__file__).parent.parent / "configs"
    for index, path in enumerate(sorted({*root.rglob("*.yaml")} - {*root.glob("papers/*")})):  # those are of studies
        (folder / f"{index}.yaml").write_bytes(path.read_bytes())
    (folder / "penalty.yaml").write_text(
        "network: {class_path: EPGN, init_args: {phases: 1, penalty: {class_path: MCP, init_args: {b: 3}}}}\n"
        "operator: {class_path: BlockCompressedSensing, init_args: {ratio: 0.1}}\ntraining: {steps: 1}\n"
    )


def print_config(path: Path) -> None:
    printed = yaml.safe_load(command("train", "--config", str(path), "--print_config"))
    assert {"data", "training"} <= set(printed)
    assert {"network", "operator"} <= set(printed) or "classifier" in printed


SHORT = ["--training.steps=1", "--training.minutes=null", "--training.epochs=null", "--training.batch=1",
         "--training.validations=1", "--training.compile=false", "--training.bfloat16=false"]  # fmt: skip


def write_settings(folder: Path) -> None:
    """Every setting of some configs, of networks that are small."""
    photos, root = folder.parent / "photos", Path(__file__).parent.parent / "configs"
    for seed in range(3):
        write_picture(photos / f"{seed}.png", 22, 22, seed)
    small = [f"--data.train=[{photos}]", "--data.hold_out=1", "--data.crop=22", "--network.phases=1"]
    small.append("--network.features=2")
    sides = ["--operator.height=22", "--operator.width=22"]
    for config, *options in (
        ["cs/epgn_25_mixture", *small, "--operator.block=11"],
        ["mri/epgn_coils", *small, *sides, "--operator.mask.center=0.2"],
        ["sparsify/lenet5_tl1", "--data.source=drawn-digits"],
    ):
        printed = command("train", f"--config={root / config}.yaml", *options, *SHORT, "--print_config")
        (folder / f"{Path(config).name}.yaml").write_text(printed)


def train_settings(path: Path) -> None:
    """A run of a step; what would make it long is not left to the config."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("unrolled.figures.training_curves.training_curve", lambda folder, score: None)
        said = command("train", f"--config={path}", f"--folder={folder}/run", *SHORT)
        assert "validation" in said
        assert any(Path(folder, "run").glob("*.safetensors"))


KINDS = {
    "png": Kind(write_images("png"), open_image, (png_checksums, png_header, png_pixels, png_pixels)),
    "jpeg": Kind(write_images("jpg"), open_image, (jpeg_frame, exif_orientation)),
    "tiff": Kind(write_images("tif"), open_image, (tiff_tag, tiff_tag, exif_orientation)),
    "tiff-numbers": Kind(write_tiff_of_numbers, open_numbers, (tiff_tag,)),
    "webp": Kind(write_images("webp"), open_image, (first_numbers,)),
    "gif": Kind(write_images("gif"), open_image, (first_numbers,)),
    "bmp": Kind(write_images("bmp"), open_image, (first_numbers,)),
    "pgm": Kind(write_images("pgm"), open_image, (first_numbers,)),
    "image-bombs": Kind(write_images("png"), read_freely, (bomb(bombs.IMAGES),), aware=0.95),
    "image-h5": Kind(write_image_h5, open_image_h5, (hdf5_sets, hdf5_sets, bomb(bombs.SETS))),
    "scaled-h5": Kind(write_scaled_h5, open_scaled_h5, (hdf5_sets,)),
    "npy": Kind(write_npy, open_matrix, (npy_header,)),
    "mat": Kind(
        write_mat,
        open_matrix,
        (mat_numbers, mat_packed, bomb({name: bombs.ARRAYS[name] for name in bombs.ARRAYS if name.endswith("mat")})),
    ),
    "mat73": Kind(write_h5("mat"), open_matrix, (hdf5_sets,)),
    "h5": Kind(
        write_h5("h5"),
        open_matrix,
        (hdf5_sets, bomb({name: bombs.ARRAYS[name] for name in bombs.ARRAYS if name.endswith("h5")})),
    ),
    "measurements": Kind(write_measurements, reconstruct, (npy_header,)),
    "dicom": Kind(write_dicom, open_dicom, (first_numbers,), aware=0.2),
    "nifti": Kind(write_nifti, lambda path: look_at(open_nifti(path, scale="max")), (first_numbers, bomb(bombs.NIFTI))),
    "kspace": Kind(write_kspace, open_kspace, (npy_header,)),
    "kspace-h5": Kind(write_kspace_h5, open_kspace, (hdf5_sets, heaps)),
    "cfl": Kind(write_cfl_pairs, open_cfl_pair, (words,)),
    "ismrmrd": Kind(write_raw_files, open_kspace, (hdf5_sets, heaps, heaps, raw_heads)),
    "weights": Kind(write_weights, open_weights, (safetensors_header,)),
    "foreign": Kind(write_foreign, open_foreign, (zip_or_words, words)),
    "cards": Kind(write_cards, open_card, (card_sizes,), aware=0.95),
    "classifier": Kind(write_classifier, open_classifier, (card_sizes, safetensors_header)),
    "archive": Kind(write_archive, open_archive, (tar_header, tar_header)),
    "shard": Kind(write_shard, open_shard, (tar_header, tar_header)),
    "shards": Kind(write_index_of_shards, open_index, (words,)),
    "checkpoint": Kind(write_checkpoint, resume, (checkpoint_member, checkpoint_state)),
    "metrics": Kind(write_metrics, go_on_with_metrics, (words,)),
    "config": Kind(write_config, print_config, (words,)),
    "settings": Kind(write_settings, train_settings, (settings,), aware=1),
}
