"""Laws of every public entry that takes an image, measurements, a matrix, a mask, maps or other arrays: whatever type,
scale or layout they have, the value is right, or a ValueError names the argument. A new entry is tested by existing: it
must be listed here."""

import importlib
import inspect
import re
import tempfile
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import unrolled
from tests.helpers import picture
from tests.pairs import FULL
from unrolled.data import DatasetBatches, ImageStore, LabelledImages, RandomCrops
from unrolled.data.complex_phase import with_fixed_phase, with_phase
from unrolled.data.kspace_files import KSpace
from unrolled.metrics import nmse, psnr, ssim, volume_figures
from unrolled.networks import EPGN
from unrolled.operators import (
    BlockCompressedSensing,
    Blur,
    Dense,
    Downsampling,
    FanBeam,
    Identity,
    Inpainting,
    MaskedFourier,
    MultiCoilFourier,
    Radon,
    as_operator,
)
from unrolled.penalties import ARD, L1, Weighted
from unrolled.reconstruction.mri import kspace_operator
from unrolled.reconstruction.perturbations import robustness
from unrolled.reconstruction.pipeline import iterates
from unrolled.solvers import (
    adaptive_dropout_descent,
    admm,
    conjugate_gradient,
    extra_proximal_gradient,
    fista,
    image_irls,
    irls,
    primal_dual,
    proximal_gradient,
    proximal_gradient_regression,
    reweighted_l1,
)
from unrolled.solvers.methods import METHODS, classical
from unrolled.solvers.priors import SparsePrior, TotalVariation
from unrolled.solvers.transforms import DCT

NAMES = {"image", "images", "x", "y", "matrix", "mask", "maps", "kernel", "truth", "start", "dataset", "validation",
         "angles", "thing", "labels", "weights", "w", "X"}  # fmt: skip
"""How parameters are called that take arrays."""

WHERE = (
    *("unrolled", "unrolled.data", "unrolled.metrics", "unrolled.operators", "unrolled.penalties", "unrolled.solvers"),
    *("unrolled.solvers.methods", "unrolled.reconstruction.pipeline", "unrolled.reconstruction.mri"),
    *("unrolled.reconstruction.perturbations", "unrolled.data.kspace_files"),
)

EXEMPT = {
    "internal, given what others checked": "OneOfOperators.weights "
    "measure.image invert.y linear_start.y picture.x sides.x pad.x "
    "check_image.image worst.x worst.y zero_fill.y Task.y Task.start shown_psnr.image shown_psnr.truth "
    "to_uint8.image Solution.image SampledFourier.mask Regression.w structural_similarity.x structural_similarity.y",
    "functions of tensors that are given a function": "conjugate_gradients.matrix conjugate_gradients.start "
    "conjugate_gradient_iterates.matrix conjugate_gradient_iterates.start",
    "a file, see tests.kinds": "ImageData.validation",
    "lists of checked images": "LabelledSplits.validation",
    "elementwise mathematics, see the laws of penalties": "adaptive_dropout_mask.w",
}


class Entry(NamedTuple):
    """An entry with one argument left open.

    call : array ↦ result
    good : an array that it takes, float64
    said : a pattern that messages about the argument have
    unit : whether the argument is an image with black and white, and not numbers
    back : whether the result has the units of the image
    kind : the type that it takes without doubt
    """

    call: Callable[[Any], Any]
    good: np.ndarray
    said: str
    unit: bool = False
    back: bool = False
    kind: torch.dtype = torch.float32


IMAGE = (picture(12, 15)[0] * 255).round().double().numpy() / 255
BLOCKS = BlockCompressedSensing(ratio=0.5, block=3)
WHOLE = np.random.default_rng(0).integers(0, 4, (12, 15)).astype(float)
MASK = np.random.default_rng(1).integers(0, 2, (12, 15)).astype(float)
X = torch.from_numpy(WHOLE)[None, None].float() / 4


@cache
def network() -> EPGN:
    torch.manual_seed(0)
    return EPGN(1, 2)


def measured(matrix: Any) -> torch.Tensor:
    return Dense(matrix, 3, 4)(X[..., :3, :4])


def all_of(image: Any) -> Any:
    (found,) = unrolled.reconstruct_all([image], network(), BLOCKS)
    if found.error:
        raise ValueError(found.error)
    return found.image


def batch_of(images: Any) -> torch.Tensor:
    return RandomCrops([images], 9).batch(0, 2)


def validated(name: str) -> Callable[[Any], Any]:
    def call(value: Any) -> float:
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            made = EPGN(1, 2), BlockCompressedSensing(ratio=0.5, block=3)
            short = unrolled.TrainingOptions(steps=1, batch=1, validations=1)
            images = {"dataset": [picture(9, 9)], "validation": [picture(9, 9)], name: [value]}
            figures = unrolled.fit(
                *made, images["dataset"], short, validation=images["validation"], crop=9, folder=folder, progress=False
            )
            return figures["psnr"]

    return call


FIT = {
    f"fit.{name}": Entry(validated(name), IMAGE[None, :9, :9], f"{name}|images|data:", unit=True)
    for name in ("dataset", "validation")
}
Y = BLOCKS(X[..., :15])
PRIOR = SparsePrior(L1(), 0.01, DCT())


def solved(solver: Callable[..., Any], name: str) -> Entry:
    given = (PRIOR,) if "prior" in inspect.signature(solver).parameters else ()

    def call(value: Any) -> torch.Tensor:
        made = {name: value}
        more = {"inner": 60} if solver is image_irls else {}
        found = solver(made.pop("y", Y), BLOCKS, *given, iterations=2, **made, **more)
        return torch.tensor(found.history[-1].get("psnr", 0.0)) if name == "truth" else found.image

    good = Y.round().double().numpy() if name == "y" else X.double().numpy()
    return Entry(call, good, name)


ROWS = np.random.default_rng(2).integers(-3, 4, (9, 4)).astype(float)


def regressed(solver: Callable[..., Any], name: str) -> Entry:
    good = {"X": ROWS, "y": np.arange(9.0), "start": np.arange(4.0)}

    def call(value: Any) -> torch.Tensor:
        given = {**good, name: value}
        more = {"generator": torch.Generator().manual_seed(0)} if solver is adaptive_dropout_descent else {}
        return solver(given["X"], given["y"], L1(), 0.1, start=given["start"], iterations=200, **more).w

    return Entry(call, good[name], name)


SOLVERS = (
    admm,
    conjugate_gradient,
    extra_proximal_gradient,
    fista,
    image_irls,
    primal_dual,
    proximal_gradient,
    reweighted_l1,
)


def adapted(y: Any) -> torch.Tensor:
    """How well a network predicts what is held out, before it is adapted."""
    few = unrolled.TrainingOptions(steps=1, batch=1, warmup=1, validations=1)
    return torch.tensor(unrolled.adapt(network(), y, BLOCKS, training=few, progress=False).before)


ENTRIES: dict[str, Entry] = {
    "reconstruct.image": Entry(lambda x: unrolled.reconstruct(x, network(), BLOCKS), IMAGE[None], "image", True, True),
    "reconstruct_all.images": Entry(all_of, IMAGE[None], "image", True),
    "evaluate.images": Entry(
        lambda x: unrolled.evaluate(network(), {"photo": x}, BLOCKS)["psnr"], IMAGE[None], "photo|images", True
    ),
    "iterates.image": Entry(lambda x: torch.stack(iterates(x, network(), BLOCKS)), IMAGE[None], "image", True),
    "robustness.images": Entry(
        lambda x: robustness(
            *(network(), BLOCKS, {"photo": x}), methods=[], noise=[0], ratios=[], perturbations=[], steps=1
        )["noise"]["network"],
        IMAGE[None],
        "photo|images",
        True,
    ),
    **FIT,
    "ImageStore.images": Entry(lambda x: ImageStore([x])[0], IMAGE[None], "image", True),
    "RandomCrops.images": Entry(batch_of, IMAGE[None], "image", True),
    "DatasetBatches.dataset": Entry(lambda x: DatasetBatches([x]).batch(0, 1), IMAGE[None], "dataset", True),
    "psnr.image": Entry(lambda x: psnr(x, torch.from_numpy(IMAGE)[None, None]), WHOLE[None, None] / 4, "image"),
    "psnr.truth": Entry(lambda x: psnr(torch.from_numpy(WHOLE)[None, None] / 4, x), IMAGE[None, None], "truth|image"),
    "ssim.image": Entry(lambda x: ssim(x, torch.from_numpy(IMAGE)[None, None]), WHOLE[None, None] / 4, "image"),
    "ssim.truth": Entry(lambda x: ssim(torch.from_numpy(WHOLE)[None, None] / 4, x), IMAGE[None, None], "truth|image"),
    "nmse.image": Entry(lambda x: nmse(x, torch.from_numpy(WHOLE)[None, None] + 1), WHOLE[None, None], "image"),
    "nmse.truth": Entry(
        lambda x: nmse(torch.from_numpy(WHOLE)[None, None] + 1, x), WHOLE[None, None] + 2, "truth|image"
    ),
    "volume_figures.image": Entry(lambda x: volume_figures(x, WHOLE[None] + 1)["nmse"], WHOLE[None], "image|volumes"),
    "volume_figures.truth": Entry(
        lambda x: volume_figures(WHOLE[None] + 1, x)["nmse"], WHOLE[None] + 2, "truth|image|volumes"
    ),
    "with_phase.images": Entry(
        lambda x: with_phase(x, torch.Generator().manual_seed(0)), WHOLE[None, None] / 4, "images"
    ),
    "with_fixed_phase.image": Entry(lambda x: with_fixed_phase(x, 3), WHOLE[None] / 4, "image"),
    "LabelledImages.images": Entry(
        lambda x: LabelledImages(x, [0], ["a"]).images, WHOLE[None, None], "images", kind=torch.uint8
    ),
    "LabelledImages.labels": Entry(
        lambda x: LabelledImages(np.zeros((3, 1, 2, 2), np.uint8), x, ["a", "b"]).labels,
        np.array([0.0, 1, 1]),
        "labels",
        kind=torch.int64,
    ),
    "reconstruct.y": Entry(
        lambda y: unrolled.reconstruct(None, network(), BLOCKS, y=y), Y.double().numpy(), "measurements"
    ),
    "adapt.y": Entry(adapted, Y.double().numpy(), "measurements"),
    "classical.weights": Entry(
        lambda weights: classical("tv", BLOCKS(X), BLOCKS, iterations=2, weights=weights),
        1 + WHOLE[:1, :1],
        "weights",
        kind=torch.float64,
    ),
    "classical.y": Entry(
        lambda y: torch.stack([classical(method, y, BLOCKS, iterations=2) for method in METHODS]),
        Y.double().numpy(),
        "y",
    ),
    "kspace_operator.maps": Entry(
        lambda s: kspace_operator(KSpace(np.ones((2, 12, 15), complex), MASK, True), maps=s)(X + 0j),
        np.stack([WHOLE, WHOLE[::-1] + 1]),
        "maps",
    ),
    "KSpace.y": Entry(lambda y: KSpace(y, MASK, True).y, np.stack([WHOLE, WHOLE + 1]), "y"),
    "KSpace.mask": Entry(lambda m: KSpace(np.ones((2, 12, 15)), m, True).mask, MASK, "mask"),
    "KSpace.truth": Entry(lambda t: KSpace(np.ones((2, 12, 15)), MASK, True, t).truth, WHOLE, "truth"),
    "Dense.matrix": Entry(measured, np.random.default_rng(0).integers(-3, 4, (5, 12)).astype(float), "matrix"),
    "BlockCompressedSensing.matrix": Entry(
        lambda m: BlockCompressedSensing(block=3, matrix=m)(X),
        np.random.default_rng(0).integers(-3, 4, (5, 9)).astype(float),
        "matrix",
    ),
    "Blur.kernel": Entry(lambda k: Blur(k)(X), WHOLE[:3, :5], "kernel|matrix"),
    "Downsampling.kernel": Entry(lambda k: Downsampling(3, k)(X), WHOLE[:3, :5], "kernel|matrix"),
    "Inpainting.mask": Entry(lambda m: Inpainting(m)(X), MASK, "mask"),
    "MaskedFourier.mask": Entry(lambda m: MaskedFourier(m)(X), MASK, "mask"),
    "MultiCoilFourier.mask": Entry(lambda m: MultiCoilFourier(np.ones((2, 12, 15)), m)(X + 0j), MASK, "mask"),
    "MultiCoilFourier.maps": Entry(
        lambda s: MultiCoilFourier(s, MASK)(X + 0j), np.stack([WHOLE, WHOLE[::-1] + 1]), "maps"
    ),
    "Radon.angles": Entry(lambda a: Radon(a, 12, 15)(X), np.array([0.0, 7, 90]), "angles"),
    "FanBeam.angles": Entry(lambda a: FanBeam(a, 12, 15, source_distance=40)(X), np.array([0.0, 7, 90]), "angles"),
    "as_operator.thing": Entry(
        lambda m: as_operator(m, shape=(1, 3, 4))(X[..., :3, :4]),
        np.random.default_rng(0).integers(-3, 4, (5, 12)).astype(float),
        "matrix|as_operator",
    ),
    "ARD.X": Entry(lambda x: ARD(x, 1.0).value(torch.tensor([1.0, -2, 0.5, 0])), ROWS, "X"),
    "Weighted.weights": Entry(lambda w: Weighted(L1(), w).value(X), WHOLE, "weights"),
    **{
        f"{solver.__name__}.{name}": regressed(solver, name)
        for solver in (irls, proximal_gradient_regression, adaptive_dropout_descent)
        for name in ("X", "y", "start")
    },
    **{f"{solver.__name__}.{name}": solved(solver, name) for solver in SOLVERS for name in ("y", "start", "truth")},
}


def public_entries() -> set[str]:
    """Every "function.parameter" that takes an array, by the names of parameters."""
    found = set()
    for path in WHERE:
        module = importlib.import_module(path)
        for name in getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")]):
            thing = getattr(module, name)
            here = hasattr(module, "__all__") or getattr(thing, "__module__", "") == path
            if callable(thing) and here and getattr(thing, "__module__", "").startswith("unrolled"):
                if isinstance(thing, type) and issubclass(thing, (unrolled.networks.UnrolledNetwork,)):
                    continue  # their start is a module
                found |= {f"{name}.{each}" for each in inspect.signature(thing).parameters if each in NAMES}
    return found


def test_every_entry_is_listed():
    exempt = {name for names in EXEMPT.values() for name in names.split()}
    assert public_entries() - exempt - set(ENTRIES) == set()
    assert set(ENTRIES) & exempt == set()
    assert exempt | set(ENTRIES) <= public_entries()


SAME: dict[str, Callable[[np.ndarray], Any]] = {
    "float64": lambda a: torch.from_numpy(a),
    "float16": lambda a: torch.from_numpy(a).half(),
    "bfloat16": lambda a: torch.from_numpy(a).bfloat16(),
    "array": lambda a: a.astype(np.float32),
    "list": lambda a: a.tolist(),
    "not contiguous": lambda a: torch.from_numpy(np.ascontiguousarray(a.T)).float().permute(*range(a.ndim)[::-1]),
    "negative strides": lambda a: a[..., ::-1].copy()[..., ::-1],
    "other byte order": lambda a: a.astype(">f4"),
    "read-only": lambda a: np.broadcast_to(a, a.shape),
    "complex": lambda a: a.astype(np.complex64),
    "int64": lambda a: a.astype(np.int64) if (a == a.round()).all() else None,
    "int16": lambda a: torch.from_numpy(a.astype(np.int16)) if (a == a.round()).all() else None,
    "uint8": lambda a: a.astype(np.uint8) if (a == a.round()).all() and a.min() >= 0 else None,
    "bool": lambda a: a.astype(bool) if set(np.unique(a)) <= {0, 1} else None,
}
"""Forms of the same numbers; None where there is no such form."""

BAD: dict[str, Callable[[np.ndarray], Any]] = {
    "NaN": lambda a: _with(a, np.nan),
    "inf": lambda a: _with(a, np.inf),
    "-inf": lambda a: torch.from_numpy(_with(a, -np.inf)),
    "empty": lambda a: a[:0],
    "no axes": lambda a: np.float64(0.5),
    "ragged": lambda a: [[0.5], [0.5, 0.5]],
    "text": lambda a: [["a"]],
    "nothing": lambda a: {},
}
"""What no entry can take."""

SCALED: dict[str, tuple[Callable[[np.ndarray], Any], float]] = {
    "bytes": (lambda a: (255 * a).round().astype(np.uint8), 255),
    "16 bits": (lambda a: (65535 * a).round().astype(np.uint16), 65535),
    "bytes, tensor": (lambda a: torch.from_numpy((255 * a).round().astype(np.uint8)), 255),
    "(height, width)": (lambda a: a[0], 1),
}
"""Forms of an image whose white is known, and what that is."""

UNKNOWN: dict[str, Callable[[np.ndarray], Any]] = {
    "int16": lambda a: (255 * a).astype(np.int16),
    "int64": lambda a: torch.from_numpy((255 * a).astype(np.int64)),
    "0 … 255": lambda a: 255 * a,
    "-1 … 1": lambda a: 2 * a - 1,
    "tiny": lambda a: 3e-5 * a,
    "huge": lambda a: 1e30 * a,
    "12 bits in 16": lambda a: (4095 * a).astype(np.uint16),
    "channels last": lambda a: np.moveaxis(np.concatenate([a] * 3), 0, -1),
    "complex 0 … 190": lambda a: 190j * a,
}
"""Images of which nobody can know what white is."""

NO_MATTER = {
    form: {
        *("psnr.image", "ssim.image", "nmse.image", "nmse.truth", "volume_figures.image"),
        *("with_phase.images", "with_fixed_phase.image"),
    }
    for form in ("inf", "-inf", "NaN")
}
"""Elementwise mathematics: NaN goes in, and NaN comes out."""


def _with(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed.flat[-1] = value
    return changed


def forms_of(name: str, forms: dict[str, Any]) -> list[str]:
    """The forms that an entry is given: all of some, and by default every third, in turn, of the others."""
    first = list(ENTRIES).index(name)
    whole = FULL or name in ("reconstruct.image", "Dense.matrix")
    return [form for number, form in enumerate(forms) if whole or (first + number) % 3 == 0]


every_entry = pytest.mark.parametrize("name", ENTRIES)
every_image = pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.unit])


def outcome(entry: Entry, value: Any) -> Any:
    """The result, or the message of a ValueError that names the argument."""
    try:
        return entry.call(value)
    except ValueError as error:
        message = str(error)
    assert re.search(entry.said, message), f"the message does not name the argument: {message}"
    return message


def close(found: Any, expected: Any, tolerance: float) -> bool:
    found, expected = (torch.as_tensor(each).to(torch.complex128) for each in (found, expected))
    size = max(0.1, float(expected.abs().max())) if expected.numel() else 1.0
    return found.shape == expected.shape and bool(((found - expected).abs() <= tolerance * size).all())


@every_entry
def test_the_same_numbers_in_another_form_give_the_same_value(name):
    entry = ENTRIES[name]
    expected = entry.call(torch.from_numpy(entry.good).to(entry.kind))
    for form in forms_of(name, SAME):
        value = SAME[form](entry.good)
        if value is None or (form == "complex" and "phase" in name) or name == "adaptive_dropout_descent.X":
            # What is complex has its phase; what is dropped depends on the precision, which is that of X.
            continue
        found = outcome(entry, value)
        if isinstance(found, str):
            doubtful = ("complex", "float16", "bfloat16", "int64", "int16", "uint8", "bool")
            assert form in doubtful or entry.kind != torch.float32, f"{form}: {found}"
        else:
            assert close(found, expected, 0.03 if form.endswith("float16") else 1e-4), form


@every_entry
def test_what_is_no_such_array_is_refused_by_name(name):
    entry = ENTRIES[name]
    for form in forms_of(name, BAD):
        if (name, form) == ("Weighted.weights", "no axes"):  # one weight for all
            continue
        found = outcome(entry, BAD[form](entry.good))
        if name in NO_MATTER.get(form, ()) and not isinstance(found, str):
            assert not bool(torch.as_tensor(found).isfinite().all()), form
        else:
            assert isinstance(found, str), f"{form} was taken: {found}"


@every_image
def test_images_whose_white_is_known_are_the_same_image(name):
    entry = ENTRIES[name]
    expected = torch.as_tensor(entry.call(torch.from_numpy(entry.good).float()))
    for form in forms_of(name, SCALED):
        make, white = SCALED[form]
        found = outcome(entry, make(entry.good))
        assert not isinstance(found, str), f"{form}: {found}"
        found = torch.as_tensor(found) / (white if entry.back else 1)
        assert close(found, expected.reshape(found.shape), 1e-4), form


@every_image
def test_images_whose_white_nobody_knows_are_refused(name):
    entry = ENTRIES[name]
    for form in forms_of(name, UNKNOWN):
        found = outcome(entry, UNKNOWN[form](entry.good))
        assert isinstance(found, str), f"{form} was taken for an image in [0, 1]"


CONTENT = {
    "odd": IMAGE[None, :9, :11],
    "one pixel": IMAGE[None, :1, :1],
    "color": np.stack([IMAGE[:9, :9], IMAGE[3:, :9], IMAGE[:9, 6:]]),
    "constant": np.full((1, 9, 9), 0.5),
    "black": np.zeros((1, 9, 9)),
}


@every_image
def test_images_of_any_size_and_content_have_a_value_or_a_message(name):
    entry = ENTRIES[name]
    for form in forms_of(name, CONTENT):
        found = outcome(entry, CONTENT[form])
        if isinstance(found, str):
            assert form in ("one pixel", "odd", "color"), found
        else:
            assert not torch.as_tensor(found).isnan().any(), form


def test_numbers_that_the_precision_cannot_hold_are_refused():
    for name, entry in ENTRIES.items():
        if entry.unit or name.startswith(
            ("psnr", "ssim", "nmse", "volume", "Labelled", "irls", "proximal_gradient_reg", "adaptive")
        ):
            continue
        for size in (1e300, 1e-300):
            found = outcome(entry, size * (entry.good + 1))
            assert isinstance(found, str) or torch.as_tensor(found).isfinite().all(), name
            assert isinstance(found, str) or torch.as_tensor(found).any(), name


def test_the_mean_of_total_variation_takes_arrays_too():
    prior = TotalVariation(0.1)
    expected = prior.prox(torch.from_numpy(IMAGE)[None, None], 1.0)
    assert close(prior.prox(IMAGE[None, None].tolist(), 1.0), expected, 1e-4)
    assert close(Identity()(IMAGE[None, None]), IMAGE[None, None], 1e-6)
