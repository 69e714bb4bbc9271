"""Training with a sparsifier: any task, any strategy, stopped and resumed at any step."""

import functools
import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules import module as torch_modules

import unrolled
from tests.helpers import concrete_subclasses
from tests.pairs import FULL
from tests.training.small_runs import (
    HELD_OUT,
    Crash,
    Line,
    at_step,
    crash,
    metrics,
    options,
    run_together,
    tensors,
    train,
)
from tests.training.strategies import Plane, any_strategy, noisy, proximal, scaled
from unrolled.figures.training_curves import training_curve
from unrolled.metrics import psnr
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing
from unrolled.penalties import L1
from unrolled.sparsify import Cubic, ProximalStep, Sparsifier
from unrolled.training import Loop
from unrolled.training.runs.checkpoint import load_checkpoint

KINDS = list(dict.fromkeys(concrete_subclasses(Sparsifier)))
STRATEGIES = {"proximal": proximal, "scaled": scaled, "noisy": noisy}


def sparse_options(**changes):
    return options(**{"steps": 20, "batch": 8, "learning_rate": 0.05, "validations": 5, **changes})


def run(folder, sparsifier, resume=False, task=None, seed=3, **changes):
    task = task or Plane()
    loop = Loop(task, sparse_options(**changes), folder, progress=False, seed=seed, sparsifier=sparsifier)
    return loop, loop.run(resume)


def weights_of(model):
    return {name: value for name, value in model.named_parameters() if value.ndim > 1}


def hooks_of(model):
    return [hook for module in model.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)]


def assert_same_end(one, other):
    states = [load_checkpoint(folder / "last.pt") for folder in (one, other)]
    for part in ("model", "average", "optimizer", "sparsifier"):
        pairs = list(zip(tensors(states[0][part]), tensors(states[1][part]), strict=True))
        assert pairs
        assert all(torch.equal(a, b) for a, b in pairs), part
    plain = ("step_count", "steps", "base_strength", "control", "recipe")
    assert [states[0]["sparsifier"][key] for key in plain] == [states[1]["sparsifier"][key] for key in plain]
    weights = [load_file(folder / "sparse.safetensors") for folder in (one, other)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert metrics(one) == metrics(other)
    assert (one / "sparsity.json").read_bytes() == (other / "sparsity.json").read_bytes()


# ---- kills


def assert_kills_do_no_harm(make, steps, tmp_path, monkeypatch):
    straight, often, one_step = tmp_path / "straight", {"checkpoint_minutes": 1e-9, "steps": 15}, Loop._one_step
    killed = {step: tmp_path / str(step) for step in steps}

    def watched(self, loss_of):  # what a kill leaves at the beginning of a step
        if self.progress.step in killed:
            shutil.copytree(straight, killed[self.progress.step])
        one_step(self, loss_of)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_one_step", watched)
        run(straight, make, **often)
    for step, folder in killed.items():
        state = load_checkpoint(folder / "last.pt")
        assert state["step"] == step
        assert (state["sparsifier"]["masks"] is None) == (step < 9)  # fine tuning begins with the end of step 8
        run(folder, make, resume=True, **often)
        assert_same_end(straight, folder)


@pytest.mark.parametrize("name", STRATEGIES)
def test_killed_at_any_step_a_run_ends_with_the_same_bits(name, tmp_path, monkeypatch):
    assert_kills_do_no_harm(STRATEGIES[name], (8, 9, 14), tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", KINDS)
def test_every_strategy_can_be_stopped_and_resumed(kind, tmp_path, monkeypatch):
    # In fine tuning; that it goes on before it is a law of every strategy.
    assert_kills_do_no_harm(any_strategy(kind), (6, 11) if FULL else (11,), tmp_path, monkeypatch)


def test_a_finished_run_resumes_to_its_end_and_changes_nothing(tmp_path):
    _, figures = run(tmp_path / "run", scaled)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.suffix != ".safetensors"}
    assert run(tmp_path / "run", scaled, resume=True)[1] == figures
    assert {name: (tmp_path / "run" / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    "other", [None, noisy, lambda model: proximal(model, strength=0.6), lambda model: proximal(model, fine_tune=0.1)]
)
def test_a_run_goes_on_only_with_the_sparsifier_it_was_started_with(other, tmp_path):
    run(tmp_path / "run", proximal)
    with pytest.raises(ValueError, match=r"resume: sparsifier must be that of the run in .*ProximalStep.*, got "):
        run(tmp_path / "run", other, resume=True)


def test_a_dense_run_does_not_become_a_sparse_one(tmp_path):
    run(tmp_path / "run", None)
    with pytest.raises(ValueError, match=r"resume: sparsifier must be that of the run in .*, None, got .*ProximalStep"):
        run(tmp_path / "run", proximal, resume=True)


def test_after_a_stop_nothing_is_left_on_the_model_and_it_can_be_resumed(tmp_path, monkeypatch):
    task = Plane()
    with monkeypatch.context() as patch:
        at_step(patch, 5, crash)
        with pytest.raises(Crash):
            run(tmp_path / "run", noisy, task=task)
    assert not hooks_of(task.model)
    loop, _ = run(tmp_path / "run", noisy, resume=True, task=task)
    assert not hooks_of(task.model)
    with pytest.raises(ValueError, match="finalized"):
        loop.run(resume=True)


# ---- what a run ends with


def test_a_run_before_is_not_written_over(tmp_path):
    run(tmp_path, None)
    best = (tmp_path / "best.safetensors").read_bytes()
    with pytest.raises(ValueError, match="already holds a run; resume it or choose another folder"):
        run(tmp_path, proximal)
    for name in ("last.pt", "previous.pt"):
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"holds metrics\.jsonl, which a run that begins there would replace"):
        run(tmp_path, proximal)
    assert (tmp_path / "best.safetensors").read_bytes() == best


@pytest.mark.parametrize("fine_tune", [0.0, 0.4])
@pytest.mark.parametrize("name", STRATEGIES)
def test_zeros_are_exact_and_figures_are_those_of_the_weights(name, fine_tune, tmp_path):
    task = Plane()
    loop, figures = run(tmp_path, lambda model: STRATEGIES[name](model, fine_tune=fine_tune), task=task)
    saved = load_file(tmp_path / "sparse.safetensors")
    assert not (tmp_path / "best.safetensors").exists()
    zeros = sum(int((saved[weight] == 0).sum()) for weight in weights_of(task.model))
    numbers = sum(saved[weight].numel() for weight in weights_of(task.model))
    assert 0 < zeros < numbers
    assert figures["sparsity"] == zeros / numbers
    again = Plane()
    again.model.load_state_dict(saved)
    assert again.validate(again.model.eval())["fit"] == figures["sparse_fit"]
    facts = json.loads((tmp_path / "sparsity.json").read_text())
    assert facts["after"] == {"fit": figures["sparse_fit"]}
    assert facts["before"] == {"fit": figures["fit"]}
    assert facts["sparsity"] == figures["sparsity"]
    assert facts["strength"] == loop.sparse.sparsifier.base_strength > 0
    assert facts["step"] == 20
    assert metrics(tmp_path)[-1].items() >= figures.items()
    ended = loop.sparse.model.state_dict()
    assert all(torch.equal(saved[key], ended[key]) for key in ended)


def test_a_validation_looks_at_the_model_as_it_is_and_with_its_zeros(tmp_path, monkeypatch):
    """Noisy's hooks add a half in evaluation, so that the two are told apart; the training goes on undisturbed."""
    seen = []
    validate = Plane.validate

    def watched(self, model):
        seen.append(
            (len(hooks_of(model)), sum(int((w == 0).sum()) for w in weights_of(model).values()), model.training)
        )
        return validate(self, model)

    monkeypatch.setattr(Plane, "validate", watched)
    loop, figures = run(tmp_path / "seen", noisy, validations=2)
    # at step 10 two looks, hooks on the model; at step 20 one, for the zeros are the model's; and one at the end
    assert [(hooks, zeros > 0, training) for hooks, zeros, training in seen] == [
        (2, False, False), (2, True, False), (0, True, False), (0, True, False),
    ]  # fmt: skip
    first, last = metrics(tmp_path / "seen")
    assert first["sparse_fit"] != first["fit"]
    assert last["sparse_fit"] == last["fit"]
    assert loop.shown == {"val sparse_fit": f"{figures['sparse_fit']:.2f}", "sparsity": "50.00%"}
    run(tmp_path / "unseen", noisy, validations=1)
    states = [load_checkpoint(tmp_path / name / "last.pt") for name in ("seen", "unseen")]
    assert all(map(torch.equal, tensors(states[0]["model"]), tensors(states[1]["model"])))


def test_weights_are_averaged_from_where_zeros_stand_still(tmp_path):
    task = Plane()
    loop = Loop(task, sparse_options(average=0.8), tmp_path, progress=False, seed=3, sparsifier=proximal)
    history, one_step = [], loop._one_step

    def watched(loss_of):
        one_step(loss_of)
        history.append(task.model[0].weight.detach().clone())
        assert (loop.sparse.model is task.model) == (len(history) < 12)

    loop._one_step = watched
    loop.run()
    expected = history[11]
    for count, weight in enumerate(history[12:], 1):
        decay = min(0.8, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * weight
    found = loop.sparse.model[0].weight.detach()
    torch.testing.assert_close(found, expected)
    assert torch.equal(found == 0, history[11] == 0)
    assert (found == 0).any()


def test_the_number_of_steps_is_said_as_soon_as_it_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr("unrolled.training.loop.CALIBRATION_STEPS", 4)

    def make(model):
        return ProximalStep(model, L1(), target=0.5, schedule=Cubic(0.5))

    loop, _ = run(tmp_path / "steps", make)
    assert loop.sparse.sparsifier.steps == loop.sparse.sparsifier.step_count == 20
    loop, _ = run(tmp_path / "minutes", make, steps=None, minutes=0.01, validations=1)
    assert loop.sparse.sparsifier.steps == loop.sparse.sparsifier.step_count == loop.progress.steps > 4
    assert loop.sparse.sparsifier.course.progress == 1


# ---- learning


def test_what_the_sparsifier_learns_is_learned_and_does_not_decay(tmp_path):
    def factors(**changes):
        loop, _ = run(tmp_path / str(len(list(tmp_path.iterdir()))), lambda m: scaled(m, fine_tune=0.0), **changes)
        return torch.cat([factor.detach().flatten() for factor in loop.sparse.sparsifier.factors])

    once = factors(steps=1, warmup=0, learning_rate=1e-9, final_rate=0.0)
    assert (factors() - once).abs().max() > 0.1
    decayed = factors(steps=1, warmup=0, learning_rate=1e-9, optimizer="adamw", weight_decay=1e8)
    torch.testing.assert_close(decayed, once)


def test_without_a_loss_of_its_own_a_sparsifier_leaves_the_gradients(tmp_path):
    """A strategy that never acts is a run without any, but for the average."""

    def idle(model):
        sparsifier = proximal(model, fine_tune=0.0)
        sparsifier.act = lambda optimizer, options: None
        return sparsifier

    run(tmp_path / "idle", idle, average=0.0)
    run(tmp_path / "none", None, average=0.0)
    states = [load_checkpoint(tmp_path / name / "last.pt") for name in ("idle", "none")]
    assert all(map(torch.equal, tensors(states[0]["model"]), tensors(states[1]["model"])))


def test_the_loss_of_the_sparsifier_is_not_in_bfloat16(tmp_path):
    _, figures = run(tmp_path, scaled, bfloat16=True)
    assert figures["sparsity"] > 0


@pytest.mark.parametrize("culprit", ["loss", "learned"])
def test_a_batch_of_nan_leaves_the_sparsifier_as_it_was(culprit, tmp_path, monkeypatch):
    class Spoiled(Plane):
        def loss(self, model, batch, step):
            return super().loss(model, batch, step) * (math.nan if step == 7 and culprit == "loss" else 1)

    def make(model):
        sparsifier = scaled(model)
        factor = sparsifier.factors[0]
        spoil = culprit == "learned"
        factor.register_hook(lambda g: g * math.nan if sparsifier.step_count == 7 and not skipped and spoil else g)
        return sparsifier

    skipped, unchanged, one_step = [], [], Loop._one_step

    def watched(self, loss_of):
        before = [tensor.clone() for tensor in tensors(self.sparse.state_dict())]
        count = self.progress.skipped
        one_step(self, loss_of)
        if self.progress.skipped > count:
            skipped.append(self.progress.step - 1)
            unchanged.append(all(map(torch.equal, before, tensors(self.sparse.state_dict()))))

    monkeypatch.setattr(Loop, "_one_step", watched)
    loop, _ = run(tmp_path, make, task=Spoiled())
    assert (skipped, unchanged) == ([7], [True])
    assert loop.sparse.sparsifier.step_count == 19


# ---- bad input


def test_what_cannot_be_sparsified_is_refused_before_anything_is_written(tmp_path):
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.ones(1))

    class NoWeights(Line):
        def __init__(self):
            self.model = Bare()

    other = nn.Linear(2, 2)
    wrong = {
        "has no weights to sparsify": (proximal, NoWeights()),
        "'conv9' matches no parameter or module": (lambda model: proximal(model, include="conv9"), None),
        "strength must be a finite number > 0": (lambda model: proximal(model, strength=-1.0), None),
        "sparsifier must be a function .*, got 'ProximalStep'": ("ProximalStep", None),
        "the function must return a Sparsifier, got None": (lambda model: None, None),
        "acts on weight, which is not a parameter of the model": (lambda model: proximal(other), None),
    }
    for message, (make, task) in wrong.items():
        with pytest.raises(ValueError, match=message):
            unrolled.training.train(task or Plane(), sparse_options(), folder=tmp_path, progress=False, sparsifier=make)
        assert list(tmp_path.iterdir()) == []
    proximal(other).release()  # it was let go of


def test_what_acts_inside_of_the_model_is_not_compiled(tmp_path):
    task = Plane()
    with pytest.raises(ValueError, match="Noisy acts while the model runs; train it with compile=False"):
        Loop(task, sparse_options(compile=True), tmp_path, progress=False, sparsifier=noisy)
    assert not hooks_of(task.model)
    proximal(task.model).release()


@pytest.mark.parametrize("kind", KINDS)
def test_strategies_with_hooks_say_that_they_act_inside_of_the_model(kind):
    def hooks(model):
        everywhere = (torch_modules._global_forward_hooks, torch_modules._global_forward_pre_hooks)
        return len(hooks_of(model)) + sum(map(len, everywhere))

    model = Plane().model
    before = hooks(model)
    sparsifier = any_strategy(kind)(model)
    model(torch.ones(2, 6))  # some look once at what runs after what
    assert (hooks(model) > before) == kind.acts_in_forward
    sparsifier.release()
    assert hooks(model) == before


def test_the_room_that_is_asked_for_is_what_the_checkpoints_take(tmp_path, monkeypatch):
    for make, optimizer in ((proximal, "adam"), (scaled, "sgd"), (noisy, "adamw")):
        task, folder = Plane(inputs=2000), tmp_path / optimizer
        few = sparse_options(steps=3, warmup=0, optimizer=optimizer)
        weak = functools.partial(make, strength=1e-4, target=None)
        loop = Loop(task, few, folder, progress=False, sparsifier=weak)
        monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 0}))
        folder.mkdir()
        with pytest.raises(ValueError, match="checkpoints need") as error:
            loop.folder.check(loop._checkpoint_bytes())
        monkeypatch.undo()
        loop.run()
        asked = 1e6 * float(str(error.value).split("need ")[1].split(" MB")[0])
        assert load_checkpoint(folder / "last.pt")["sparsifier"]["masks"] is not None
        assert 0.9 < asked / (3 * (folder / "last.pt").stat().st_size) < 1.3


# ---- reconstruction


def test_a_network_for_reconstruction_becomes_sparse_and_is_loaded_again(tmp_path):
    torch.manual_seed(0)
    network, operator = EPGN(1, 4), BlockCompressedSensing(ratio=0.25, block=11)
    folder = tmp_path / "run"
    figures = unrolled.fit(
        network, operator, "embedded", options(steps=24, learning_rate=1e-3), folder=folder, crop=22, progress=False,
        sparsifier=lambda network: ProximalStep(network, L1(), target=0.6, fine_tune=0.2),
    )  # fmt: skip
    names = {path.name for path in folder.iterdir()}
    files = {"metrics.jsonl", "sparse.safetensors", "sparsity.json", "curve.png", "environment.json"}
    assert names == files | {"last.pt", "previous.pt"}
    saved = load_file(folder / "sparse.safetensors")
    weights = {name: value for name, value in saved.items() if name.startswith("network.") and value.ndim > 1}
    zeros = sum(int((value == 0).sum()) for value in weights.values())
    facts = json.loads((folder / "sparsity.json").read_text())
    assert facts["report"]["total"]["weights"] - facts["report"]["total"]["nonzeros"] == zeros > 0
    assert facts["after"].keys() == {"psnr", "start_psnr"}
    loaded, its_operator = unrolled.load(folder / "sparse.safetensors")
    x = HELD_OUT[0][:, :33, :44].unsqueeze(0)
    with torch.no_grad():
        image = loaded(its_operator(x), its_operator)
        torch.testing.assert_close(image, network(operator(x), operator))
    assert psnr(image, x).item() > 15
    assert {"psnr", "start_psnr", "sparse_psnr", "sparsity", "strength"} <= figures.keys()
    training_curve(folder)


def test_the_curve_shows_sparsity_of_any_task(tmp_path):
    run(tmp_path, proximal)
    sizes = []
    for lines in (
        metrics(tmp_path),
        [{k: v for k, v in line.items() if k != "sparsity"} for line in metrics(tmp_path)],
    ):
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        png = training_curve(tmp_path, "fit").read_bytes()
        sizes.append(int.from_bytes(png[20:24]))
    assert sizes == [660, 480]


# ---- several processes


def test_a_run_of_two_processes_is_that_of_one(tmp_path):
    train(tmp_path / "one", sparsifier=scaled)
    run_together(train, tmp_path / "two", False, None, scaled)
    states = [load_checkpoint(tmp_path / folder / "last.pt") for folder in ("one", "two")]
    assert states[0]["sparsifier"]["masks"] is not None
    for part in ("model", "optimizer", "sparsifier"):
        pairs = list(zip(tensors(states[0][part]), tensors(states[1][part]), strict=True))
        assert pairs
        for a, b in pairs:
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    reports = [(tmp_path / folder / "sparsity.json").read_text() for folder in ("one", "two")]
    assert json.loads(reports[0])["report"] == json.loads(reports[1])["report"]
    assert json.loads(reports[0])["sparsity"] > 0
    outcomes = [json.loads((tmp_path / f"two-{rank}.json").read_text()) for rank in range(2)]
    assert outcomes[0] == outcomes[1]
    zeros = [torch.load(tmp_path / f"two-{rank}.pt") for rank in range(2)]
    assert all(map(torch.equal, zeros[0], zeros[1]))
