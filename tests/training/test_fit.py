import json

import pytest
import torch
from torch.utils.data import TensorDataset

import unrolled
from tests.helpers import picture, write_picture
from unrolled import TrainingOptions
from unrolled.metrics import psnr
from unrolled.networks import EPGN, ISTANetPlus
from unrolled.operators import BlockCompressedSensing
from unrolled.training import Loop, Task, TrainingError
from unrolled.training.checkpoint import load_checkpoint


def options(**changes):
    return TrainingOptions(**{"steps": 12, "batch": 2, "warmup": 2, "validations": 3, "average": 0.5, **changes})


def pieces(seed=0):
    torch.manual_seed(seed)
    return EPGN(1, 4), BlockCompressedSensing(ratio=0.25, block=11)


IMAGES = [picture(60, 70, seed) for seed in range(4)]
HELD_OUT = [picture(40, 50, 9)]


def fit(folder, dataset=IMAGES, network=None, operator=None, training=None, **more):
    made = pieces()
    network, operator = network or made[0], operator or made[1]
    more = {"validation": HELD_OUT, "crop": 22, "progress": False, "folder": folder, **more}
    return network, operator, unrolled.fit(network, operator, dataset, training or options(), **more)


def test_a_run_leaves_everything_in_its_folder(tmp_path):
    network, operator, figures = fit(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"metrics.jsonl", "last.pt", "best.safetensors", "curve.png", "environment.json"}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert lines[-1]["psnr"] == figures["psnr"]
    # The network is left with the averaged weights, those that were validated last.
    x = HELD_OUT[0][:, 3:36, 3:47].unsqueeze(0)
    with torch.no_grad():
        assert psnr(network(operator(x), operator), x).item() == pytest.approx(figures["psnr"], abs=1e-4)


def test_training_learns(tmp_path):
    _, _, figures = fit(tmp_path / "run", training=options(steps=60, learning_rate=5e-3, average=0.9))
    assert figures["psnr"] > figures["start_psnr"] + 0.5


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path):
    weights = []
    for run, seed in enumerate((0, 0, 1)):
        network, _, _ = fit(tmp_path / str(run), seed=seed)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


class Interrupted(Exception):
    pass


def test_a_resumed_run_ends_with_the_same_bits(tmp_path, monkeypatch):
    straight, _, _ = fit(tmp_path / "straight")
    one_step = Loop._one_step

    def stop(self):
        if self.step == 10:
            raise KeyboardInterrupt
        return one_step(self)

    monkeypatch.setattr(Loop, "_one_step", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "stopped")
    monkeypatch.setattr(Loop, "_one_step", one_step)
    assert load_checkpoint(tmp_path / "stopped" / "last.pt")["step"] == 10
    resumed, _, _ = fit(tmp_path / "stopped", resume=True)
    for a, b in zip(straight.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    metrics = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("straight", "stopped")]
    steps, again = ([json.loads(line)["step"] for line in lines] for lines in metrics)
    assert steps == again


def test_a_finished_run_resumes_to_its_end_and_changes_nothing(tmp_path):
    _, _, figures = fit(tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert fit(tmp_path / "run", resume=True)[2]["psnr"] == pytest.approx(figures["psnr"], abs=1e-6)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_nan_stops_and_the_last_good_checkpoint_stays(tmp_path):
    calls = []

    def loss(image, truth):
        calls.append(1)
        return (image - truth).square().mean() * (float("nan") if len(calls) > 6 else 1)

    with pytest.raises(TrainingError, match=r"loss became nan at step 6; .* keeps the last good checkpoint"):
        fit(tmp_path / "run", loss=loss)
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    assert state["step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())
    unrolled.load(tmp_path / "run" / "best.safetensors")


def test_a_gradient_of_nan_stops_before_it_reaches_the_weights(tmp_path):
    calls = []

    class Poisoned(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            calls.append(1)
            return gradient * (float("nan") if len(calls) == 4 else 1)  # in the step before a validation

    with pytest.raises(TrainingError, match="norm of the gradient became nan at step 3"):
        fit(tmp_path / "run", loss=lambda image, truth: (Poisoned.apply(image) - truth).square().mean())
    assert not (tmp_path / "run" / "last.pt").exists()


def test_own_losses_and_own_data_sets_fit_in(tmp_path):
    class Crops(TensorDataset):
        def __getitem__(self, index):
            return super().__getitem__(index)[0]

    dataset = Crops(torch.stack([image[:, :33, :33] for image in IMAGES]))
    seen = []

    def loss(image, truth):
        seen.append(image.shape)
        return (image - truth).abs().mean()

    fit(tmp_path / "run", dataset, loss=loss)
    assert set(seen) == {(2, 1, 33, 33)}
    with pytest.raises(ValueError, match="validation: give held-out images"):
        fit(tmp_path / "other", dataset, validation=None)


def test_a_learned_matrix_is_trained_and_saved(tmp_path):
    operator = BlockCompressedSensing(ratio=0.25, block=11, learned=True)
    before = operator.matrix.detach().clone()
    fit(tmp_path / "run", operator=operator)
    assert not torch.equal(operator.matrix, before)
    assert (unrolled.load(tmp_path / "run" / "best.safetensors")[1].matrix - before).norm() > 0


def test_bfloat16_and_the_other_network_train_too(tmp_path):
    figures = fit(tmp_path / "run", network=ISTANetPlus(1, 4), training=options(bfloat16=True))[2]
    assert figures["psnr"] > figures["start_psnr"] - 1


def test_minutes_become_steps_once(tmp_path):
    fit(tmp_path / "run", training=options(steps=None, minutes=0.05, validations=2))
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    assert state["step"] == state["steps"] >= 20


def test_epochs_count_the_data(tmp_path):
    fit(tmp_path / "run", training=options(steps=None, epochs=1.5))
    crops = 4 * 60 * 70 // 22**2
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == round(1.5 * crops / 2)


def test_folders_in_use_not_writable_or_without_checkpoint_are_refused(tmp_path):
    fit(tmp_path / "run")
    with pytest.raises(ValueError, match="already holds a run"):
        fit(tmp_path / "run")
    with pytest.raises(ValueError, match="no checkpoint"):
        fit(tmp_path / "empty", resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        fit(tmp_path / "file" / "run")
    (tmp_path / "run" / "last.pt").write_bytes((tmp_path / "run" / "last.pt").read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged"):
        fit(tmp_path / "run", resume=True)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    fit(tmp_path / "run")
    with pytest.raises(ValueError, match="belongs to another model"):
        fit(tmp_path / "run", network=EPGN(2, 4), resume=True)


def test_a_checkpoint_that_holds_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    folder = tmp_path / "run"
    folder.mkdir()
    torch.save({"step": 1, "code": Evil()}, folder / "last.pt")
    with pytest.raises(ValueError, match="damaged or not a checkpoint"):
        fit(folder, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None}, "exactly one of steps, epochs and minutes, got none"),
        ({"minutes": 1.0}, "exactly one of"),
        ({"steps": -5}, "steps must be"),
        ({"batch": 0}, "batch must be"),
        ({"learning_rate": float("nan")}, "learning_rate must be"),
        ({"clip": -1.0}, "clip must be"),
        ({"warmup": -1}, "warmup must be"),
        ({"average": 1.0}, r"average must be in \[0, 1\)"),
        ({"validations": 0}, "validations must be"),
    ],
)
def test_bad_options_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        options(**changes)


def test_an_unknown_device_is_refused(tmp_path):
    with pytest.raises(ValueError, match="device: 'gpu' is not usable"):
        fit(tmp_path / "run", device="gpu")


def test_the_learning_rate_rises_and_falls():
    schedule = TrainingOptions(steps=100, learning_rate=1.0, warmup=10, final_rate=0.1)
    rates = [schedule.rate(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)


class Line(Task):
    """Another task: fit a line. The loop must not know of images."""

    epoch, score = 8, "fit"

    def __init__(self):
        self.model = torch.nn.Linear(1, 1)

    def batch(self, step, size):
        return torch.randn(size, 1, generator=torch.Generator().manual_seed(step))

    def loss(self, model, batch, step):
        return (model(batch) - (3 * batch + 1)).square().mean()

    def validate(self, model):
        return {"fit": -(model.weight - 3).abs().max().item()}

    def save(self, model, path, card):
        torch.save(model.state_dict(), path)


def test_the_loop_trains_any_task(tmp_path):
    figures = Loop(Line(), options(steps=200, learning_rate=0.1, batch=8), tmp_path / "run", progress=False).run()
    assert figures["fit"] > -0.2


def test_the_average_is_the_exponential_one(tmp_path):
    task = Line()
    loop = Loop(task, options(steps=30, learning_rate=0.1, average=0.9), tmp_path / "run", progress=False)
    expected, one_step = task.model.weight.detach().clone(), Loop._one_step
    history = []
    loop._one_step = lambda: (one_step(loop), history.append(task.model.weight.detach().clone()))[0]
    loop.run()
    for count, weight in enumerate(history):
        decay = min(0.9, (1 + count) / (10 + count)) if count else 0.0
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(loop.model.weight.detach(), expected)


def test_a_folder_name_or_embedded_images_are_data_sets_too(tmp_path):
    for seed in range(10):
        write_picture(tmp_path / "images" / f"{seed}.png", 44, 44, seed)
    fit(tmp_path / "run", str(tmp_path / "images"), validation=None, training=options(steps=2, validations=1))
