"""unrolled networks, as a user types it."""

import json
import re
from contextlib import nullcontext
from functools import cache, partial

import pytest
import torch

from tests.helpers import concrete_subclasses
from tests.pairs import FULL
from unrolled.cli import main, network_list
from unrolled.cli.network_list import by_default, facts_of, preset_classes
from unrolled.networks import (
    EPGN,
    ComposedNetwork,
    ISTANetPlus,
    MoDL,
    ProximalGradientPhase,
    ProximalStep,
    ResidualCNN,
    UnrolledNetwork,
    arithmetic,
)
from unrolled.networks.arithmetic import counted_on, multiply_adds
from unrolled.operators import (
    BlockCompressedSensing,
    Blur,
    CartesianMask,
    Coils,
    Dense,
    Downsampling,
    GaussianKernel,
    Inpainting,
    MaskedFourier,
    MultiCoilFourier,
    RadialMask,
    Radon,
)


def test_every_network_of_the_presets_is_listed_with_its_facts(capsys, tmp_path, monkeypatch):
    if not FULL:  # networks of one phase, whose arithmetic is counted sooner
        monkeypatch.setattr(network_list, "by_default", partial(by_default, phases=1))
    file = tmp_path / "networks.json"
    assert main(["networks", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    found = {each["name"]: each for each in json.loads(file.read_text())["networks"]}
    presets = [cls for cls in concrete_subclasses(UnrolledNetwork) if ".presets." in cls.__module__]
    assert list(found) == sorted((cls.__name__ for cls in presets), key=str.lower)
    for cls in presets:
        facts = found[cls.__name__]
        row = re.search(rf"^{cls.__name__} .*$", printed, re.MULTILINE)[0]
        assert f" {facts['parameters']:,} " in row
        assert f" {facts['multiply_adds']:,} " in row
        assert row.endswith(facts["operators"])
        # One source: an equation, and whose it is.
        assert "=" in facts["equation"], f"{cls.__name__}: its docstring begins with its equation"
        assert re.search(r"\b(19|20)\d\d\b|our own", facts["source"]), f"{cls.__name__}: then it says whose it is"
        assert facts["equation"].split()[0] in printed


def test_multiply_adds_are_those_counted_by_hand():
    phase = 9 * 64 + 3 * 9 * 64 * 64 + 9 * 64  # five convolutions by 3×3, from one map over 64 to one
    assert counted_on(MoDL(phases=10)) == ("the identity", 10 * phase)
    complex_phase = 9 * 2 * 64 + 3 * 9 * 64 * 64 + 9 * 64 * 2
    assert counted_on(MoDL(phases=2, shared=False, complex_images=True)) == ("the identity", 2 * complex_phase)
    # A matrix takes part once in the start, and twice in the gradient of every phase.
    network = ComposedNetwork(ProximalGradientPhase(ResidualCNN(4, 2)), phases=3)
    layers = 9 * 4 + 9 * 4
    assert multiply_adds(network, Dense(torch.eye(9, 36), 6, 6), (1, 6, 6)) == 9 * 36 * (1 + 2 * 3) + 36 * 3 * layers


def test_one_network_is_told_with_its_options(capsys):
    assert main(["networks", "MoDL"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "x⁺ = (AᴴA + λ)⁻¹(Aᴴy + λD(x))" in printed
    assert "phases = 10 iterations. features = 64" in printed
    assert "complex_images = False whether it is made for operators that measure complex images." in printed
    assert "shares weights by default" in printed
    assert main(["networks", "Nothing"]) == 1
    assert "unknown network 'Nothing'; known: " in capsys.readouterr().err


def test_networks_of_a_module_of_ones_own_are_shown(capsys, monkeypatch):
    monkeypatch.setattr("unrolled.cli.command_line.allow_packages", lambda *_: None)
    argv = ["--import", "tests.training.small_runs"]
    for name in ("GradientDescent", "tests.training.small_runs.GradientDescent"):
        assert main(["networks", name, *argv]) == 0
        said = capsys.readouterr().out
        assert re.search(r"^  parameters +10$", said, re.MULTILINE)
        assert "complex_images = False" in said
    monkeypatch.setattr("unrolled.cli.network_list.preset_classes", dict)
    assert main(["networks", *argv]) == 0
    assert re.search(r"^GradientDescent +10 ", capsys.readouterr().out, re.MULTILINE)
    assert main(["networks", "GradientDescent"]) == 1
    assert "--import takes a module of your own" in capsys.readouterr().err


def test_a_network_that_needs_more_than_its_class_says_so():
    class Needy(EPGN):
        def __init__(self, levels: int, sigma: float, phases: int = 2):
            super().__init__(phases)

    with pytest.raises(ValueError, match="Needy: is shown as it is by default, and levels and sigma must be given"):
        by_default(Needy)


def test_facts_are_those_of_the_classes():
    epgn, ista, modl = map(facts_of, (EPGN, ISTANetPlus, MoDL))
    assert (epgn.parameters, ista.parameters, modl.parameters) == (336_996, 336_978, 112_002)
    assert (epgn.compacts, ista.compacts, modl.compacts) == (True, True, False)
    assert (epgn.shared, modl.shared) == ("if asked", "by default")
    assert {each.images for each in (epgn, ista, modl)} == {"real or complex"}
    assert {each.noise_level for each in (epgn, ista, modl)} == {"if asked"}
    assert {each.tiles for each in (epgn, ista, modl)} == {True}


OPERATORS = {
    "blocks": lambda: BlockCompressedSensing(ratio=0.25, block=8),
    "pixels": lambda: Inpainting(keep=0.5, height=24, width=24),
    "blur": lambda: Blur(GaussianKernel(1.0)),
    "Fourier": lambda: MaskedFourier(RadialMask(0.4), 24, 24),
    "complex Fourier": lambda: MaskedFourier(RadialMask(0.4), 24, 24, complex_images=True),
    "coils": lambda: MultiCoilFourier(Coils(3), CartesianMask(2), 24, 24),
    "rays": lambda: Radon(12, 24, 24),
    "fewer pixels": lambda: Downsampling(2),
    "matrix": lambda: Dense(torch.eye(144, 576), 24, 24),
}


@cache
def made(name):
    """Once, for it keeps its norm."""
    return OPERATORS[name]()


@cache
def short(cls, complex_images, complex_measurements):
    """A network of one phase, for such images and measurements as far as it can choose."""
    return by_default(cls, phases=1, complex_images=complex_images, complex_measurements=complex_measurements)


class Uncounted(nullcontext):
    """In the place of a counter of arithmetic, which takes nine tenths of the time."""

    def __init__(self, display):
        super().__init__(self)

    def get_total_flops(self):
        return 0


@pytest.mark.parametrize("cls", preset_classes().values(), ids=lambda cls: cls.__name__)
def test_the_list_says_which_operators_are_refused(cls, monkeypatch):
    """Those that need something refuse an operator that has it not, in these words; the others take all."""
    monkeypatch.setattr(arithmetic, "FlopCounterMode", Uncounted)
    refusals = []
    for operator in map(made, OPERATORS):
        network = short(cls, operator.complex_images, operator.complex_measurements)
        if network.complex_images == operator.complex_images:
            try:
                multiply_adds(network, operator, (1, 24, 24))
            except ValueError as error:
                refusals.append(str(error))
    demands = network.demands
    assert bool(refusals) == bool(demands), refusals
    assert all(any(demand in refusal for demand in demands) for refusal in refusals), refusals


def test_a_demand_of_a_part_is_one_of_the_network():
    phase = ProximalGradientPhase(ResidualCNN(4, 2), ProximalStep(closed_form=True))
    network, radon = ComposedNetwork(phase, phases=2), Radon(10, 16, 16)
    (demand,) = network.demands
    with pytest.raises(ValueError, match=rf"ProximalStep: needs {re.escape(demand)}, which .* has not"):
        network(torch.zeros(1, *radon.measurement_shape((1, 16, 16))), radon)
    assert ComposedNetwork(ProximalGradientPhase(ResidualCNN(4, 2)), phases=2).demands == []
