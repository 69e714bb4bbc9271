"""Benchmarks compare equal things, and the pages that they make are up to date."""

import json
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import unrolled
from benchmarks import coil_maps, convergence, convolutions, mri, peers, prox, radon, report, sparsify, throughput
from benchmarks.machine import Demand, interleaved
from benchmarks.plain import Plain
from tests.helpers import concrete_subclasses, picture, write_picture
from unrolled import penalties
from unrolled.cli.robustness import TITLES, table
from unrolled.data.kspace_files import KSpace
from unrolled.networks import EPGN, ISTANetPlus
from unrolled.operators import BlockCompressedSensing, Coils, MaskedFourier, RadialMask
from unrolled.operators.frequencies import fourier
from unrolled.penalties import L1, SeparablePenalty
from unrolled.penalties.numeric import NumericPenalty
from unrolled.solvers.priors import SparsePrior
from unrolled.solvers.transforms import DCT
from unrolled.sparsify import Sparsifier

DEVICE = torch.device("cpu")


@pytest.mark.parametrize("make", [EPGN, ISTANetPlus])
def test_the_plain_reference_is_the_same_network(make):
    torch.manual_seed(0)
    network = make(phases=3, features=6).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    operator = BlockCompressedSensing(ratio=0.25, block=11).double()
    x = torch.rand(2, 1, 22, 33, dtype=torch.float64)
    y, plain = operator(x), Plain(network)
    torch.testing.assert_close(plain(y, operator), network(y, operator))
    ours, reference = network.loss(x, y, operator), plain.loss(x, y, operator)
    torch.testing.assert_close(reference, ours)
    # And so are its gradients: both learn the same.
    sizes = [
        sorted(float(part.norm()) for part in torch.autograd.grad(loss, list(model.parameters())))
        for loss, model in ((ours, network), (reference, plain))
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-9)


def test_every_form_of_a_thin_convolution_is_that_convolution():
    torch.manual_seed(0)
    for direction, forms in convolutions.FORMS.items():
        inputs, outputs = (1, 8) if direction.startswith("from") else (8, 1)
        x = torch.randn(2, inputs, 9, 12, dtype=torch.float64)
        kernel = torch.randn(outputs, inputs, 5, 5, dtype=torch.float64)
        expected = torch.conv2d(x, kernel, padding=2)
        for name, form in forms.items():
            torch.testing.assert_close(form(x, kernel).double(), expected, atol=1e-5, rtol=0, msg=name)


def test_demand_counts_arithmetic_and_bytes():
    a, b = torch.randn(30, 40, requires_grad=True), torch.randn(40, 50)
    with Demand() as demand:
        (a @ b).relu().sum().backward()
    forward = 2 * 30 * 40 * 50
    assert demand.arithmetic == 2 * forward  # the gradient of a is one more product
    products = [moved for arithmetic, moved, _ in demand.operations if arithmetic]
    assert products == [4 * (30 * 40 + 40 * 50 + 30 * 50)] * 2
    network, operator = EPGN(1, 4), BlockCompressedSensing(ratio=0.25, block=11)
    y = operator(torch.rand(1, 1, 22, 22))
    network.start(y, operator)  # its estimator is made once
    with Demand() as demand, torch.no_grad():
        network(y, operator)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(y, operator)
    assert demand.arithmetic == counter.get_total_flops()


def test_all_runs_take_turns_and_wait_for_each_other():
    order = []
    times = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, DEVICE, 5)
    assert order == list("aabb" + 5 * "ab")
    assert all(entry["low"] <= entry["median"] <= entry["high"] for entry in times.values())


def test_variants_run_and_their_switches_act(monkeypatch):
    monkeypatch.setattr(throughput, "CROP", 33)
    network, operator = EPGN(1, 4), BlockCompressedSensing(ratio=0.25)
    x = torch.rand(1, 1, 33, 33)
    for name in throughput.VARIANTS:
        if not throughput.applies(name, "EPGN", "training", set()):
            continue
        for task in throughput.TASKS:
            throughput.runner(name, throughput.variant(name, network, operator, task), operator, task, x)()
    first = throughput.variant("unrolled, float32, channels first", network, operator, "training")
    last = throughput.variant("unrolled, float32", network, operator, "training")
    weights = [model.phases[0].prox.sparsify.conv.weight for model in (first, last)]
    assert [weight.is_contiguous() for weight in weights] == [True, False]


def test_the_performance_page_is_made_of_its_figures():
    assert report.page() == report.PAGE.read_text()
    readme = (report.ROOT / "README.md").read_text()
    assert report.summary(json.loads((report.FIGURES / "cpu.json").read_text())) in readme


def test_speed_did_not_cost_quality():
    for path in report.FIGURES.glob("[cg]pu.json"):
        rows = [row for row in json.loads(path.read_text())["rows"] if "psnr" in row]
        for kind in {row["network"] for row in rows}:
            values = [row["psnr"] for row in rows if row["network"] == kind]
            assert max(values) - min(values) <= 0.02, (Path(path).name, kind)


def test_the_proximal_maps_are_timed_for_every_penalty(monkeypatch, capsys, tmp_path):
    argv = ["prox", "--numbers", "64", "--features", "1", "2", "3", "3", "--rounds", "2", "--no-compile"]
    monkeypatch.setattr(prox, "keep_freed_memory", lambda: None)  # which would hold for all tests
    monkeypatch.setattr("sys.argv", [*argv, "--json", str(tmp_path / "prox.json")])
    prox.main()
    result = json.loads((tmp_path / "prox.json").read_text())
    alone, in_a_network = result["alone"], result["in_a_network"]
    every = {
        cls.__name__
        for cls in concrete_subclasses(SeparablePenalty)
        if all(field.default is not MISSING for field in fields(cls))
    }
    numeric = {cls.__name__ for cls in concrete_subclasses(NumericPenalty)}
    learned = {name for name in every - numeric if getattr(penalties, name).prox_has_step_gradient}
    assert {row["map"] for row in alone} == every | {prox.COPY, prox.SHRINK}
    assert {row["map"] for row in in_a_network} == learned
    assert all(row["millions_per_second"]["median"] > 0 for row in alone + in_a_network)
    lines = capsys.readouterr().out.splitlines()
    for name in every:
        assert sum(line.startswith(f"| {name} |") for line in lines) == 1 + (name in learned)


def test_every_strategy_is_timed_beside_the_bare_optimiser(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sparsify, "keep_freed_memory", lambda: None)  # which would hold for all tests
    monkeypatch.setattr(sparsify, "SIDE", 8)
    monkeypatch.setattr(sparsify, "DEPTH", 8)
    monkeypatch.setattr(sparsify, "OPTIMIZERS", {"SGD": sparsify.OPTIMIZERS["SGD"]})
    argv = ["sparsify", "--batch", "2", "--steps", "1", "--rounds", "2", "--json", str(tmp_path / "sparsify.json")]
    monkeypatch.setattr("sys.argv", argv)
    sparsify.main()
    result = json.loads((tmp_path / "sparsify.json").read_text())
    names = {row["variant"].split()[0].rstrip(",") for row in result["overhead"]}
    assert {cls.__name__ for cls in concrete_subclasses(Sparsifier)} <= names
    assert all(row["milliseconds"]["median"] > 0 for row in result["overhead"] + result["compaction"])
    assert [row["ratio"] for row in result["overhead"] if row["variant"] == sparsify.BARE] == [1.0]
    dense, compacted = (row["parameters"] for row in result["compaction"][:2])
    assert 0.2 * dense < compacted < 0.3 * dense  # half of the filters, a quarter of the weights
    assert sparsify.tables(result) in capsys.readouterr().out
    assert "## Sparse weights" in report.sparsifying(result)


@pytest.mark.parametrize("name", ["half masked by torch.nn.utils.prune", "Torch-Pruning's BNScalePruner"])
def test_peers_that_sparsify_take_steps(name):
    model, data = sparsify.network(), sparsify.images(2)
    prepared, wrap = peers.sparsifiers(1e-3, data[0][:1])[name](model)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    sparsify.step_of(model, sparsify.OPTIMIZERS["SGD"], prepared, data, wrap)()
    assert any(not torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    if name.startswith("half"):
        assert (model.conv.weight == 0).float().mean() == pytest.approx(0.5, abs=0.01)


def test_convergence_is_measured_and_drawn(tmp_path, capsys, monkeypatch):
    operator = BlockCompressedSensing(0.5, block=8).double()
    small = {"blocks": (operator, SparsePrior(L1(), 0.01, DCT()), picture(16, 16)[None].double())}
    monkeypatch.setattr(convergence, "problems", lambda: small)
    convergence.main(["--iterations", "60", "--json", str(tmp_path / "c.json"), "--out", str(tmp_path / "c.png")])
    assert "ratio to FISTA" in capsys.readouterr().out
    curves = json.loads((tmp_path / "c.json").read_text())["problems"]["blocks"]
    assert set(curves) == set(convergence.METHODS)
    fista, extra = curves["FISTA with restarts"], curves["extra proximal gradient, accelerated"]
    assert extra == pytest.approx(fista[1::2], abs=1e-9)
    assert curves["proximal gradient"][-1] > fista[-1]
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_mri_is_measured_on_every_image(tmp_path, capsys):
    np.save(tmp_path / "mask.npy", RadialMask(0.4).draw(32, 32).numpy())
    for seed in range(3):
        write_picture(tmp_path / "test" / f"{seed}.png", 32, 32, seed)
    unrolled.save(tmp_path / "w.safetensors", EPGN(1, 2), MaskedFourier(tmp_path / "mask.npy"))
    files = [
        "--test",
        str(tmp_path / "test"),
        "--masks",
        str(tmp_path / "mask.npy"),
        "--json",
        str(tmp_path / "m.json"),
    ]
    mri.main([*files, "--weights", f"EPGN:{tmp_path / 'w.safetensors'}", "--iterations", "10", "--every", "2"])
    rows = {row["method"]: row for row in json.loads((tmp_path / "m.json").read_text())["rows"]}
    assert set(rows) == {"EPGN", *mri.CLASSICAL.values()}
    assert rows["EPGN"]["images"] == rows["zero-filled"]["images"] == 3
    assert rows["total variation"]["images"] == 2
    expected = unrolled.evaluate(tmp_path / "w.safetensors", tmp_path / "test")["psnr"]
    assert rows["EPGN"]["psnr"] == pytest.approx(expected, abs=1e-3)
    assert rows["total variation"]["psnr"] > rows["zero-filled"]["psnr"]
    with pytest.raises(ValueError, match="must be for a MaskedFourier, got BlockCompressedSensing"):
        mri.main(["--test", str(tmp_path / "test"), "--weights", "epgn-cs25"])


def test_tomography_is_timed_beside_scikit_image(capsys, tmp_path):
    radon.main(["--side", "32", "--angles", "12", "--rounds", "2", "--json", str(tmp_path / "r.json")])
    assert "joseph/theirs" in capsys.readouterr().out
    differences = json.loads((tmp_path / "r.json").read_text())["differences"]
    assert differences["forward, scikit-image"] < 1e-5
    assert differences["filtered back-projection, scikit-image"] < 1e-4


def test_pages_hold_the_tables_of_their_figures():
    docs = Path(__file__).parents[2] / "docs"
    found = json.loads((docs / "convergence.json").read_text())["problems"]
    assert convergence.table(found) in (docs / "solvers.md").read_text()
    rows = json.loads((docs / "mri.json").read_text())["rows"]
    assert mri.markdown(rows) in (docs / "mri.md").read_text()
    robust = json.loads((docs / "robustness-mri.json").read_text())
    page = (docs / "mri.md").read_text()
    for test in TITLES:
        assert table(test, robust[test]) in page


def test_maps_of_coils_are_compared_by_what_they_predict_and_where_one_set_is_enough():
    known = Coils(3).draw(30, 28)
    texture = torch.rand(30, 28, generator=torch.Generator().manual_seed(0))
    kspace = KSpace(fourier(known * texture, True), torch.ones(30, 28), True)
    assert coil_maps.unpredicted(kspace, known, 8) < 0.01
    assert coil_maps.unpredicted(kspace, known.flip(0), 8) > 0.5
    theirs, enough = 1j * known, torch.ones(30, 28, dtype=torch.bool)
    theirs[:, :3], theirs[:, 3], enough[10] = 0, known[:, 3].roll(1, 0), False
    found = coil_maps.agreement(known, theirs, enough)
    inner = (known[:, 3].conj() * theirs[:, 3]).sum(0).abs()
    assert found["largest"] == pytest.approx(float((2 - 2 * inner.square()).sqrt().max()))
    assert found["pixels"] == pytest.approx(26 / 30)
    assert (found["only ours"], found["only theirs"]) == (pytest.approx(0.1), 0)
