"""The duality paper: each strategy is the paper's run, formula by formula, and a small version of the study."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.papers import __main__ as papers
from benchmarks.papers import duality, sizes, study
from benchmarks.papers.templates import render
from unrolled.penalties import LogSum
from unrolled.sparsify import AdaProx, PenaltyLoss, ReweightedTikhonov, VariationalNoise

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "configs" / "papers" / "duality.yaml"
STRENGTH, EPSILON, SAMPLES, STEPS = 1e-3, 2.0, 60_000, 25
RHO = LogSum(EPSILON)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).double()


def batch(step: int):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(16, 6, generator=generator, dtype=torch.float64), torch.arange(16) % 3


def with_strategy(make, rate: float):
    """The weights after some steps of Adam, and the sparsifier."""
    model = network()
    sparsifier = make(model)
    optimizer = torch.optim.Adam([*model.parameters(), *sparsifier.parameters()], lr=rate)
    for step in range(STEPS):
        torch.manual_seed(step)
        x, labels = batch(step)
        (F.cross_entropy(model(x), labels) + sparsifier.loss()).backward()
        optimizer.step()
        sparsifier.step(optimizer)
        optimizer.zero_grad()
    return [model[0].weight.detach(), model[2].weight.detach()], sparsifier


class OfThePaper:
    """A run written down from the paper's formulas: its loss, what it learns, and what follows a step."""

    def __init__(self, weights):
        self.weights, self.learned = weights, []

    def outputs(self, model, x):
        return model(x)

    def penalty(self):
        return 0.0

    def after(self, optimizer, rate):
        pass


class LogSumRun(OfThePaper):
    def penalty(self):
        return sum(STRENGTH * (w.abs() + EPSILON).log().sum() for w in self.weights)


class EtaTrick(OfThePaper):
    def __init__(self, weights):
        super().__init__(weights)
        self.learned = [torch.full_like(w, 5.0).requires_grad_() for w in weights]  # log(η/λ)

    def penalty(self):
        total = 0.0
        for w, log in zip(self.weights, self.learned, strict=True):
            eta = STRENGTH * log.exp()
            s = (EPSILON**2 + 4 * eta).sqrt()
            f = 2 * ((s + EPSILON) / 2).log() - (s - EPSILON) ** 2 / (4 * eta)
            total = total + STRENGTH / 2 * (w**2 / eta + f + 1e-3 * log).sum()
        return total


def eta(w):
    return w.detach().abs() * (w.detach().abs() + EPSILON)


class AdaTikhonov(OfThePaper):
    def penalty(self):
        total = 0.0
        for w in self.weights:
            alpha = (eta(w) / (eta(w) + STRENGTH)).clamp(min=1e-3)
            total = total + (w**2 * (1 - alpha) / alpha).sum() / 2
        return total


class AdaProxRun(OfThePaper):
    def after(self, optimizer, rate):
        for w in self.weights:
            state = optimizer.state[w]
            corrected = state["exp_avg_sq"] / (1 - 0.999 ** float(state["step"]))
            w.data *= eta(w) / (eta(w) + STRENGTH * rate / (corrected.sqrt() + 1e-8))


class VarDrop(OfThePaper):
    """60,000 times the cross entropy plus the divergence, all over 60,000; α is the variance of the noise here."""

    def __init__(self, weights):
        super().__init__(weights)
        self.learned = [torch.full_like(w, -5.0).requires_grad_() for w in weights]

    def log_alpha(self, w, log):
        return log

    def penalty(self):
        k1, k2, k3 = 0.63576, 1.8732, 1.48695
        total = 0.0
        for w, log in zip(self.weights, self.learned, strict=True):
            log_alpha = self.log_alpha(w, log).clamp(-8, 8)
            negative = k1 * torch.sigmoid(k2 + k3 * log_alpha) - F.softplus(-log_alpha) / 2 - k1
            total = total - negative.sum() / SAMPLES
        return total

    def outputs(self, model, x):
        seeds = torch.randint(2**32, (2,)).tolist()  # the strategy's own noise, for the formulas are to be compared
        layers = []
        for w, log, seed in zip(self.weights, self.learned, seeds, strict=True):
            noise = torch.randn(w.shape, generator=torch.Generator().manual_seed(seed), dtype=w.dtype)
            layers.append(w * (1 + (log / 2).exp() * noise))
        hidden = F.relu(F.linear(x, layers[0], model[0].bias))
        return F.linear(hidden, layers[1], model[2].bias)


class VarDropLR(VarDrop):
    def variance(self, w, log):
        return log.exp() * w**2

    def outputs(self, model, x):
        for layer, w, log in zip((model[0], model[2]), self.weights, self.learned, strict=True):
            spread = F.linear(x**2, self.variance(w, log)).float() + 1e-8
            x = F.linear(x, w, layer.bias) + (spread.sqrt() * torch.randn_like(spread)).double()
            x = F.relu(x) if layer is model[0] else x
        return x


class VarDropLRAR(VarDropLR):
    def log_alpha(self, w, log):
        return 2 * log - (w**2).log()

    def variance(self, w, log):
        return (2 * log).exp()


def from_the_paper(run, rate: float):
    model = network()
    own = run([model[0].weight, model[2].weight])
    optimizer = torch.optim.Adam([*model.parameters(), *own.learned], lr=rate)
    for step in range(STEPS):
        torch.manual_seed(step)
        x, labels = batch(step)
        (F.cross_entropy(own.outputs(model, x), labels) + own.penalty()).backward()
        optimizer.step()
        with torch.no_grad():
            own.after(optimizer, rate)
        optimizer.zero_grad()
    return [w.detach() for w in own.weights], own


MAKERS = {
    "LogSum": (LogSumRun, lambda m: PenaltyLoss(m, RHO, STRENGTH, cutoff=0.05)),
    "eta-trick": (
        EtaTrick,
        lambda m: ReweightedTikhonov(
            m, RHO, STRENGTH, update="joint", log_eta_weight=1e-3, initial_keep=1 / (1 + math.exp(-5))
        ),
    ),
    "AdaTikhonov": (AdaTikhonov, lambda m: ReweightedTikhonov(m, RHO, STRENGTH)),
    "AdaProx": (AdaProxRun, lambda m: AdaProx(m, RHO, STRENGTH)),
    "VarDrop": (VarDrop, lambda m: VariationalNoise(m, strength=1 / SAMPLES, parametrisation="plain")),
    "VarDrop+LR": (VarDropLR, lambda m: VariationalNoise(m, strength=1 / SAMPLES, parametrisation="local")),
    "VarDrop+LR+AR": (VarDropLRAR, lambda m: VariationalNoise(m, strength=1 / SAMPLES, parametrisation="additive")),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_strategy_takes_the_steps_of_the_run_of_the_paper(name):
    run, make = MAKERS[name]
    weights, sparsifier = with_strategy(make, rate=0.01)
    wanted, own = from_the_paper(run, rate=0.01)
    torch.testing.assert_close(weights, wanted, rtol=0, atol=1e-7)
    shift = math.log(STRENGTH) if name == "eta-trick" else 0.0  # the paper learns log(η/λ)
    learned = [parameter.detach() - shift for parameter in sparsifier.parameters()]
    torch.testing.assert_close(learned, [parameter.detach() for parameter in own.learned], rtol=0, atol=1e-6)


@pytest.mark.full
def test_penalty_reweighting_and_dropout_make_weights_zero(tmp_path):
    only = ["--only", "LogSum", "AdaTikhonov", "VarDrop+LR+AR", "--seeds", "0"]
    short = ["--training.epochs=12", "--training.learning_rate=5e-3", "--training.validations=2"]
    paths = [f"--config={CONFIG}", f"--folder={tmp_path / 'runs'}", f"--json={tmp_path / 'a.json'}"]
    assert study.main([*paths, *only, *short, "--data.source=drawn-digits"]) == 0
    penalty, reweighted, dropout = json.loads((tmp_path / "a.json").read_text())["runs"]
    for row in (penalty, reweighted, dropout):
        assert row["sparsity"] > 0.4
        assert row["after"]["error"] < 8  # of ten classes, and with its zeros
        assert row["test"]["error"] < 8
    # the same gradient but for weights of almost 0
    assert reweighted["sparsity"] == pytest.approx(penalty["sparsity"], abs=0.03)
    assert reweighted["after"]["error"] == pytest.approx(penalty["after"]["error"], abs=1)

    files = [f"--folder={tmp_path / 'runs'}", f"--json={tmp_path / 'b.json'}", "--source=drawn-digits"]
    for cut in (0.0, 1e-3):
        sizes.main([*files, f"--cut={cut}"])
        found = {row["name"]: row for row in json.loads((tmp_path / "b.json").read_text())["runs"]}
        for row in (penalty, reweighted, dropout):
            own = found[row["name"]]
            if cut == 0:
                assert own["share"] == pytest.approx(1 - row["sparsity"], abs=1e-9)
                assert own["error"] == pytest.approx(row["test"]["error"], abs=1e-4)
            else:
                assert 0.01 < own["share"] < 1 - row["sparsity"] + 1e-9
                assert own["error"] == pytest.approx(row["test"]["error"], abs=1)


@pytest.fixture(scope="module")
def committed(figures):
    return duality.facts(*figures)


@pytest.fixture(scope="module")
def figures():
    return papers.figures("duality")


def test_the_committed_figures_are_those_of_the_study(figures):
    asked = study.read(str(CONFIG))
    figures, sizes = figures
    assert not figures["failed"]
    found = [(row["name"], row["seed"]) for row in figures["runs"]]
    every = [(name, seed) for name in asked["runs"] for seed in asked["seeds"]]
    assert found == [run for run in every if run in found]
    assert {(name, seed) for name in ("LogSum", "AdaTikhonov", "AdaProx", "VarDrop+LR+AR") for seed in range(3)} <= {
        *found
    }
    assert set(asked["runs"]) == set(duality.RUNS) == {row["name"] for row in figures["published"]}
    larger = {(row["name"], row["seed"]): row for row in sizes["runs"]}
    for row in figures["runs"]:
        assert 0 < larger[row["name"], row["seed"]]["share"] < 1 - row["sparsity"] + 1e-9
        wanted = study.merged(asked["base"], asked["runs"][row["name"]])
        assert row["settings"]["training"]["epochs"] == wanted["training"]["epochs"]
        assert row["settings"]["training"]["learning_rate"] == wanted["training"]["learning_rate"]
        given = wanted["sparsifier"]["init_args"]
        assert {key: row["settings"]["sparsifier"]["init_args"][key] for key in given} == given


def test_the_section_says_what_was_measured(figures):
    text = papers.text("duality", *figures)
    figures, sizes = figures
    for row in figures["published"]:
        start = f"| {duality.shown(row['name'])} |"
        shares = [1 - own["sparsity"] for own in figures["runs"] if own["name"] == row["name"]]
        large = [own["share"] for own in sizes["runs"] if own["name"] == row["name"]]
        if len(shares) > 1:
            line = next(line for line in text.splitlines() if line.startswith(start) and "±" in line)
            assert line.endswith(f"{row['error']:.2f} | {row['nonzero']:.4f} |")
            assert f"{np.mean(shares):.4f} ± {np.std(shares, ddof=1):.4f}" in line
            assert f"| {np.mean(large):.4f} ± {np.std(large, ddof=1):.4f} |" in line
        assert shares or "Not run, for lack of time: " in text


def curves(name, errors, shares):
    return [
        {"name": name, "seed": seed, "curves": {"sparse_accuracy": [20.0, 100 - error], "sparsity": [0.0, 1 - share]}}
        for seed, (error, share) in enumerate(zip(errors, shares, strict=True))
    ]


@pytest.mark.parametrize(
    ("errors", "shares", "verdict", "points", "factor"),
    [
        ([2.1, 2.3, 2.5], [0.020, 0.021, 0.022], "the same", 0.1, 1.05),
        ([2.3, 2.4, 2.5], [0.028, 0.028, 0.028], "alike", 0.2, 1.4),
        ([2.2, 2.2, 2.2], [0.04, 0.04, 0.04], "different", 0.0, 2.0),
        ([2.9, 2.9, 2.9], [0.02, 0.02, 0.02], "different", 0.7, 1.0),
    ],
)
def test_likeness_is_judged_by_error_and_nonzeros_against_the_spread_over_seeds(
    errors, shares, verdict, points, factor, committed
):
    rows = curves("LogSum", [2.0, 2.2, 2.4], [0.0199, 0.02, 0.0201]) + curves("VarDrop", errors, shares)
    pair = duality.Pair(rows, "LogSum", "VarDrop")
    assert pair.verdict == verdict
    assert pair.points == pytest.approx(points, abs=1e-9)
    assert pair.factor == pytest.approx(factor, rel=0.01)
    claim = {"shown": [], "refuted": [], "refuted" if verdict == "different" else "shown": ["VarDrop"]}
    judged = duality.judged([pair])
    assert {key: judged[key] for key in claim} == claim
    text = " ".join(render("duality", {**committed, "dropouts": judged}).split())
    assert f"behave alike is {'refuted' if verdict == 'different' else 'shown'} for VarDrop." in text
