"""Programs give the pictures of their networks and say what they take, or are refused with the reason."""

import json

import pytest
import torch

import unrolled
from tests.helpers import concrete_subclasses
from tests.networks.laws import KINDS, double
from tests.networks.test_laws import every_law
from tests.pairs import first_of
from unrolled.cli import main
from unrolled.networks import (
    EPGN,
    ComposedNetwork,
    ConjugateGradientStart,
    MoDL,
    Prior,
    ProximalGradientPhase,
    UnrolledNetwork,
)
from unrolled.operators import (
    BlockCompressedSensing,
    Blur,
    Coils,
    Dense,
    Downsampling,
    FanBeam,
    GaussianKernel,
    Identity,
    Inpainting,
    MaskedFourier,
    MultiCoilFourier,
    RadialMask,
    Radon,
    as_operator,
)
from unrolled.programs import exporting, onnx_files

SIDES = (12, 16)


def randomised(network, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


OPERATORS = {
    "BlockCompressedSensing": lambda: BlockCompressedSensing(ratio=0.3, block=4),
    "learned": lambda: BlockCompressedSensing(ratio=0.3, block=4, learned=True),
    "Dense": lambda: 100 * Dense(torch.randn(40, 192, generator=torch.Generator().manual_seed(0)) / 10, *SIDES),
    "Inpainting": lambda: Inpainting(keep=0.4, height=12, width=16),
    "Identity": Identity,
    "Blur": lambda: Blur(GaussianKernel(1.0, 5), boundary="reflect", height=12, width=16),
    "circular Blur": lambda: Blur(GaussianKernel(1.0, 5), boundary="circular", method="fft"),
    "Downsampling": lambda: Downsampling(2),
    "Downsampling by FFT": lambda: Downsampling(2, method="fft"),
    "Radon": lambda: Radon(6, *SIDES),
    "Joseph": lambda: Radon(6, *SIDES, sums="joseph"),
    "FanBeam": lambda: FanBeam(6, *SIDES, source_distance=60.0, sums="joseph"),
    "MaskedFourier": lambda: MaskedFourier(RadialMask(0.4), *SIDES),
    "MultiCoilFourier": lambda: MultiCoilFourier(Coils(3), RadialMask(0.4), *SIDES),
}

NOT_IN_ONNX = {("Radon", name): "grid_sampler_2d_backward" for name in ("started", "EPGN", "MoDL")}
NOT_IN_ONNX |= {(name, "MoDL"): "loops over complex numbers" for name in ("Downsampling by FFT", "MultiCoilFourier")}

SMALL = {
    "started": lambda kind: EPGN(1, 4, complex_images=kind, start=ConjugateGradientStart(3, 0.1)),
    "EPGN": lambda kind: EPGN(1, 4, complex_images=kind, noise_range=(0.01, 0.1)),
    "MoDL": lambda kind: MoDL(1, 4, 2, complex_images=kind),
}


def law_and_kinds():
    """The classes of networks, each with a network of its laws."""
    return [
        pytest.param(cls, kind, id=f"{cls.__name__}-{kind}", marks=pytest.mark.full)
        for cls in concrete_subclasses(UnrolledNetwork)
        for kind in KINDS
    ]


@pytest.mark.parametrize(("cls", "kind"), law_and_kinds())
def test_every_network_is_a_program(cls, kind, tmp_path):
    """In double precision, where rounding hides no difference."""
    path = tmp_path / "program.pt2"
    for law in every_law():
        for case in first_of(law.cases) if law.network_class is cls else ():
            network, operator, x = law().make(case, kind)
            network, operator, x = network.double(), operator.double(), double(x)
            found = unrolled.export(network, operator, path, size=tuple(x.shape[-2:]), tolerance=1e-10)
            program = torch.export.load(path).module()
            for images in (x[:1], torch.cat([x, x.flip(-1)])):
                y = operator(images)
                with torch.no_grad():
                    expected = network(y, operator)
                known = (network.noise_range or (0.05,))[0]
                level = [torch.full((len(y),), known, dtype=torch.float64)] * network.takes_noise
                picture = program(y, *level)
                assert picture.shape == expected.shape
                assert (picture - expected).abs().max() <= 1e-10 * expected.abs().max()
            assert found.inputs[0].shape == ("batch", *y.shape[1:])
            assert len(found.inputs) == 1 + network.takes_noise


@pytest.mark.full
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("measure", OPERATORS)
def test_every_operator_is_in_a_program(measure, name, tmp_path):
    operator = OPERATORS[measure]()
    network = randomised(SMALL[name](operator.complex_images))
    found = unrolled.export(network, operator, tmp_path / "p.pt2", size=SIDES, tolerance=1e-5)
    assert found.mebibytes > 0
    if (reason := NOT_IN_ONNX.get((measure, name))) is not None:
        with pytest.raises(ValueError, match=rf"which has no form of {reason}.*a \.pt2 file holds it"):
            unrolled.export(network, operator, tmp_path / "p.onnx", size=SIDES)
        assert not (tmp_path / "p.onnx").exists()
        return
    found = unrolled.export(network, operator, tmp_path / "p.onnx", size=SIDES)
    assert found.difference < 1e-4


@pytest.mark.full
@pytest.mark.parametrize("ending", ["pt2", "onnx"])
@pytest.mark.parametrize("measure", ["BlockCompressedSensing", "circular Blur", "Downsampling", "Identity"])
def test_images_of_any_size_are_taken_where_the_operator_measures_them(measure, ending, tmp_path):
    operator = OPERATORS[measure]()
    network = randomised(EPGN(1, 4))
    found = unrolled.export(network, operator, tmp_path / f"p.{ending}", size=SIDES, any_size=True)
    assert found.inputs[0].shape[-2:] == ("rows", "columns")
    assert found.outputs[0].shape == ("batch", 1, "height", "width")


@pytest.mark.full
@pytest.mark.parametrize("ending", ["pt2", "onnx"])
def test_colours_and_masks_of_each_image(ending, tmp_path):
    network, operator = randomised(EPGN(1, 4)), BlockCompressedSensing(ratio=0.3, block=4)
    found = unrolled.export(network, operator, tmp_path / f"p.{ending}", size=SIDES, channels=3)
    assert found.outputs[0].shape == ("batch", 3, *SIDES)
    masks = torch.stack([RadialMask(ratio).draw(*SIDES)[None] for ratio in (0.3, 0.5)])
    found = unrolled.export(randomised(EPGN(1, 4)), MaskedFourier(masks), tmp_path / f"q.{ending}")
    assert found.inputs[0].shape[0] == found.outputs[0].shape[0] == 2


def test_the_command_says_what_the_program_takes_and_writes_whose_it_is(tmp_path, capsys):
    network, operator = randomised(EPGN(1, 2, noise_range=(0.01, 0.1))), BlockCompressedSensing(ratio=0.3, block=4)
    weights, out = str(tmp_path / "w.safetensors"), str(tmp_path / "p.pt2")
    unrolled.save(weights, network, operator, {"licence": "CC0", "data": "pictures"})
    assert main(["export", weights, "--out", out, "--size=[8,12]"]) == 0
    said = capsys.readouterr().out
    assert "input  y      float32 (batch, 1, 5, 2, 3): measurements by BlockCompressedSensing" in said
    assert "input  noise  float32 (batch): standard deviation of the noise in y" in said
    assert "output x      float32 (batch, 1, 8, 12): the image, in units of which white is 1" in said
    assert "MiB" in said
    assert "licence of the weights: CC0" in said
    extra = {exporting.CARD: ""}
    program = torch.export.load(out, extra_files=extra).module()
    facts, card = json.loads(extra[exporting.CARD]), unrolled.weights.card.read_card(weights)
    assert facts["licence"] == "CC0"
    assert facts["sha256"] == card["sha256"]
    assert facts["network"] == card["network"]
    y, level = torch.randn(5, 1, 5, 2, 3), torch.linspace(0.01, 0.1, 5)
    with torch.no_grad():
        torch.testing.assert_close(program(y, level), network(y, operator, noise=level), rtol=1e-5, atol=1e-5)
    assert main(["export", weights, "--out", weights]) == 1
    assert "it is an input" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:operator. weights will not say how to make it:UserWarning")  # of functions
def test_the_command_needs_an_operator_that_it_can_make(tmp_path, capsys):
    weights = tmp_path / "w.safetensors"
    unrolled.save(weights, EPGN(1, 2), as_operator((torch.clone,) * 2, shape=(1, *SIDES)))
    assert main(["export", str(weights), "--out", str(tmp_path / "p.pt2")]) == 1
    assert "has an operator that only your program can make" in capsys.readouterr().err


BLOCKS = BlockCompressedSensing(ratio=0.3, block=4)


@pytest.mark.parametrize(
    ("operator", "arguments", "message"),
    [
        (BLOCKS, {"path": "p.pth", "size": SIDES}, r"path: must end in \.pt2 or \.onnx, got 'p.pth'"),
        (BLOCKS, {}, "measures images of any size: give size"),
        (BLOCKS, {"size": (12, 18)}, r"sides that are multiples of 4, got \(1, 12, 18\)"),
        (BLOCKS, {"size": (12, 0)}, r"size must be \(height, width\)"),
        (BLOCKS, {"size": SIDES, "channels": 0}, "channels a number"),
        (BLOCKS, {"size": SIDES, "example": torch.ones(1, 1, 5, 3, 4)}, "give size or example, not both"),
        (BLOCKS, {"example": torch.ones(1, 1, 4, 3, 4)}, "measurements must be real"),
        (Dense(torch.eye(6), 2, 3), {"size": SIDES}, r"of 2 × 3 pixels"),
        (Dense(torch.eye(6), 2, 3), {"any_size": True}, "any_size must be False for Dense, .* of 2 × 3 pixels alone"),
        (torch.eye(6), {}, "operator: must be a LinearOperator, got a Tensor"),
        (BLOCKS, {"size": SIDES, "card": {"data": BLOCKS}}, "card: data must be of plain values"),
        (None, {}, "needs a network and an operator"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_traced(operator, arguments, message, monkeypatch):
    monkeypatch.setattr(exporting, "_traced", None)
    with pytest.raises(ValueError, match=message):
        unrolled.export(EPGN(1, 2), operator, **arguments)


def test_a_missing_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_files, "LIBRARIES", ("onnx", "no_such_library"))
    with pytest.raises(ValueError, match=r"ONNX needs no_such_library: pip install 'unrolled\[onnx\]'"):
        unrolled.export(EPGN(1, 2), BLOCKS, tmp_path / "p.onnx", size=SIDES)


def test_a_program_with_another_picture_gets_no_file(monkeypatch, tmp_path):
    monkeypatch.setattr(exporting, "_traced", lambda *_: None)
    monkeypatch.setattr(exporting, "_write_and_load", lambda *_: lambda arguments: torch.zeros(1))
    with pytest.raises(ValueError, match=r"differs from that of the network by 1.0e\+00 .* tolerance is 0.001"):
        unrolled.export(EPGN(1, 2), BLOCKS, tmp_path / "p.pt2", size=SIDES, tolerance=1e-3)
    assert not list(tmp_path.iterdir())


class Undecided(Prior):
    def forward(self, z, condition=None):
        return z if bool(z.sum() > 0) else -z


def test_a_network_that_looks_at_values_cannot_be_traced():
    network = ComposedNetwork(ProximalGradientPhase(Undecided()), 1)
    with pytest.raises(
        ValueError, match=r"ComposedNetwork with BlockCompressedSensing cannot be traced into one program"
    ):
        unrolled.export(network, BLOCKS, size=SIDES)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        ("No ONNX function found for <OpOverload(op='aten.linalg_qr', overload='default')>. none", "linalg_qr"),
        ("found for <OpOverload(op='aten.abs')>. none for the complex-valued input", "abs of complex numbers"),
        ("Error when translating node %a : call_function[target=torch.ops.aten.tril.default]", "tril"),
        ("something\nelse", "a part of it: outer something else"),
    ],
)
def test_the_arithmetic_that_the_converter_does_not_know_is_named(error, what):
    outer = RuntimeError("outer")
    outer.__cause__ = ValueError(error)
    assert onnx_files.cause_of(outer) == what
