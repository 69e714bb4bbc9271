import functools
import json
import math
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import unrolled
from tests.helpers import picture, write_picture
from tests.pairs import FULL
from tests.training.small_runs import HELD_OUT, IMAGES, GradientDescent, Line, fit, options
from unrolled import TrainingOptions
from unrolled.cli import main
from unrolled.data import Batches, ImageData
from unrolled.metrics import psnr
from unrolled.networks import EPGN, ISTANetPlus
from unrolled.operators import BlockCompressedSensing, FanBeam, Identity, MaskedFourier, RadialMask, Radon, Stack
from unrolled.training import Loop, TrainingError
from unrolled.training.runs.checkpoint import load_checkpoint


def test_a_run_leaves_everything_in_its_folder(tmp_path):
    network, operator, figures = fit(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    checkpoints = {"last.pt", "previous.pt"}
    assert names == {"metrics.jsonl", "best.safetensors", "curve.png", "environment.json"} | checkpoints
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


def test_a_finished_run_resumes_to_its_end_and_changes_nothing(tmp_path):
    _, _, figures = fit(tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert fit(tmp_path / "run", resume=True)[2]["psnr"] == pytest.approx(figures["psnr"], abs=1e-6)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


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
    fit(tmp_path / "run", training=options(steps=None, minutes=0.01, validations=2))
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    assert state["step"] == state["steps"] >= 20


def test_epochs_count_the_data(tmp_path):
    fit(tmp_path / "run", training=options(steps=None, epochs=1.5))
    crops = 4 * 60 * 70 // 22**2
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == round(1.5 * crops / 2)


def test_folders_that_hold_a_run_or_cannot_be_written_are_refused(finished, tmp_path):
    with pytest.raises(ValueError, match="already holds a run"):
        fit(finished)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write"):
        fit(tmp_path / "file" / "run")


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
        ({"checkpoint_minutes": 0.0}, "checkpoint_minutes must be"),
        ({"nan_limit": 0}, "nan_limit must be"),
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


def test_a_short_run_leaves_the_warm_up():
    by_default = TrainingOptions(steps=40, learning_rate=1.0)
    rates = [by_default.rate(step, 40) for step in range(40)]
    assert rates[:5] == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5, 1])
    assert rates[39] < 0.02
    assert [by_default.warmup_steps(steps) for steps in (1, 9, 100, 1999, 2000, 10**6)] == [0, 0, 10, 199, 200, 200]
    asked = TrainingOptions(steps=40, learning_rate=1.0, warmup=200)  # what is asked for is done
    assert asked.rate(39, 40) == pytest.approx(40 / 201)


def test_the_rate_does_not_fall_when_minutes_become_steps():
    schedule = TrainingOptions(minutes=1, learning_rate=1.0)
    before = [schedule.rate(step, None) for step in range(20)]
    assert before == pytest.approx([(step + 1) / 201 for step in range(20)])
    for steps in (40, 300, 1000, 2000, 10**5):
        after = [schedule.rate(step, steps) for step in range(20, min(200, steps // 10))]
        assert [*before, *after] == sorted([*before, *after])
        assert before[-1] < schedule.rate(20, steps)
        assert max(schedule.rate(step, steps) for step in range(20, steps)) > 0.5
    assert schedule.rate(100, 2000) == schedule.rate(100, None)


def test_a_run_that_was_begun_with_another_warm_up_says_so(tmp_path):
    fit(tmp_path / "run", training=options(warmup=200))
    with pytest.warns(UserWarning, match="resume: warmup was 200 and is 1"):
        fit(tmp_path / "run", training=options(warmup=None), resume=True)
    fit(tmp_path / "same", training=options(warmup=1))
    fit(tmp_path / "same", training=options(warmup=None), resume=True)  # 1 of 12 steps: nothing to say


def test_the_loop_trains_any_task(tmp_path):
    figures = Loop(Line(), options(steps=200, learning_rate=0.1, batch=8), tmp_path / "run", progress=False).run()
    assert figures["fit"] > -0.2


def test_the_average_is_the_exponential_one(tmp_path):
    task = Line()
    loop = Loop(task, options(steps=30, learning_rate=0.1, average=0.9), tmp_path / "run", progress=False)
    expected, one_step = task.model.weight.detach().clone(), Loop._one_step
    history = []
    loop._one_step = lambda loss_of: (one_step(loop, loss_of), history.append(task.model.weight.detach().clone()))[0]
    loop.run()
    for count, weight in enumerate(history):
        decay = min(0.9, (1 + count) / (10 + count)) if count else 0.0
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(loop.sparse.model.weight.detach(), expected)


def test_a_folder_name_or_embedded_images_are_data_sets_too(tmp_path):
    for seed in range(10):
        write_picture(tmp_path / "images" / f"{seed}.png", 44, 44, seed)
    fit(tmp_path / "run", str(tmp_path / "images"), validation=None, training=options(steps=2, validations=1))


def test_memory_formats_train_alike(tmp_path):
    weights = []
    for layout in (True, False):
        network, _, _ = fit(tmp_path / str(layout), training=options(channels_last=layout))
        inner = network.phases[0].prox.sparsify.conv.weight
        assert inner.is_contiguous(memory_format=torch.channels_last) == layout
        weights.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
    torch.testing.assert_close(*weights, atol=1e-5, rtol=0)


def test_crops_have_the_shape_that_an_operator_measures(tmp_path):
    operator, images = MaskedFourier(RadialMask(0.4), 24, 16), [picture(30, 20, seed) for seed in range(3)]
    seen = []

    def loss(image, truth):
        seen.append(tuple(truth.shape))
        return (image - truth).square().mean()

    few = options(steps=2, validations=1)
    for number, crop in enumerate((None, (24, 16))):
        fit(tmp_path / str(number), images, EPGN(1, 4), operator, few, crop=crop, loss=loss, validation=images[:1])
    assert set(seen) == {(2, 1, 24, 16)}
    for crop in (16, 24, (16, 24)):
        with pytest.raises(ValueError, match=r"crop must be \(24, 16\) \(height, width\), the size that this operator"):
            fit(tmp_path / "other", images, EPGN(1, 4), operator, few, crop=crop, validation=images[:1])
    with pytest.raises(ValueError, match="all 1 training images are smaller than the crop of 24×16"):
        fit(tmp_path / "small", [picture(16, 24)], EPGN(1, 4), operator, few, crop=None, validation=images[:1])


def test_a_set_of_images_of_files_is_cut_to_the_shape_of_the_operator(tmp_path):
    for seed in range(4):
        write_picture(tmp_path / "images" / f"{seed}.png", 30, 20, seed)
    few, operator = options(steps=2, validations=1), MaskedFourier(RadialMask(0.4), 24, 16)
    data = ImageData([str(tmp_path / "images")], hold_out=1, cache_mib=0)
    for number, (dataset, crop) in enumerate(((data, None), (data, (24, 16)), (str(tmp_path / "images"), None))):
        if number == 2:
            for seed in range(4, 10):
                write_picture(tmp_path / "images" / f"{seed}.png", 30, 20, seed)
        fit(tmp_path / str(number), dataset, EPGN(1, 4), operator, few, crop=crop, validation=None)


@pytest.mark.parametrize(("crop", "text"), [("22", "22"), ("[22, 33]", "- 22\n  - 33"), (None, "null")])
def test_the_command_takes_and_keeps_crops_of_any_shape(crop, text, tmp_path):
    for seed in range(4):
        write_picture(tmp_path / "images" / f"{seed}.png", 77, 88, seed)
    argv = [
        "train", "--network=EPGN", "--network.phases=1", "--network.features=2", "--operator=BlockCompressedSensing",
        "--operator.ratio=0.25", "--operator.block=11", "--training.steps=2", "--training.validations=1",
        "--training.batch=1", f"--folder={tmp_path / 'run'}", "--device=cpu",
        f"--data.train=[{tmp_path / 'images'}]", "--data.hold_out=1",
    ]  # fmt: skip
    assert main([*argv, *([] if crop is None else [f"--data.crop={crop}"])]) == 0
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert f"crop: {text}\n" in config or f"crop:\n  {text}\n" in config
    assert "warmup: null" in config
    assert main(["train", f"--config={tmp_path / 'run' / 'config.yaml'}", "--resume"]) == 0


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("make", [GradientDescent, *([EPGN, ISTANetPlus] if FULL else [])])
def test_a_compiled_run_learns_what_an_eager_one_does(make, tmp_path, monkeypatch):
    # One graph of the whole loss; without code generation, for that takes a C++ compiler and minutes.
    graphs = []
    compile_function = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(
        torch, "compile", lambda function, **how: graphs.append(how) or compile_function(function, **how)
    )
    runs = {}
    for name, compiled in {"eager": False, "compiled": True}.items():
        torch.manual_seed(0)
        network = make() if make is GradientDescent else make(1, 4)
        fit(tmp_path / name, network=network, training=options(steps=3, validations=1, compile=compiled))
        runs[name] = load_checkpoint(tmp_path / name / "last.pt")["model"]
    assert graphs == [{"fullgraph": True, "dynamic": False}]
    for key, weight in runs["eager"].items():
        torch.testing.assert_close(runs["compiled"][key], weight, atol=1e-5, rtol=1e-4)


def test_a_run_whose_weights_end_without_a_score_fails_and_says_so(tmp_path):
    task = Line()
    task.validate = lambda model: {"fit": math.nan}
    with pytest.raises(TrainingError, match=r"no weights had a score that is a number, .* the fit nan"):
        Loop(task, options(steps=3), tmp_path, progress=False).run()
    assert not (tmp_path / "best.safetensors").exists()
    assert load_checkpoint(tmp_path / "last.pt")["step"] == 3


@pytest.fixture
def tried(monkeypatch):
    """What trials said, in a world in which a run of .011 minutes is worth one, and compiled code is eager code."""
    said = []
    monkeypatch.setattr("unrolled.training.loop.Compiled", lambda loss, name: loss)
    monkeypatch.setattr("unrolled.training.loop.WORTH_COMPILING", 0.011)
    monkeypatch.setattr("unrolled.training.loop.compiled_is_faster", lambda *_: said.append(True) or True)
    return said


LONG, SHORT = ({"steps": None, "minutes": minutes, "validations": 1} for minutes in (0.012, 0.01))


def test_only_long_runs_on_real_images_try_compiled_code(tried, tmp_path):
    fit(tmp_path / "short", training=options(**SHORT))
    fit(tmp_path / "steps", training=options(steps=2))
    fit(tmp_path / "eager", training=options(**LONG, compile=False))
    Loop(Line(), options(**LONG), tmp_path / "line", progress=False).run()  # a task of which nothing is known
    assert not tried
    fit(tmp_path / "long", training=options(**LONG))
    assert tried


def test_a_resumed_run_keeps_the_form_that_it_began_with(tried, tmp_path):
    run = functools.partial(fit, tmp_path / "run")
    run(training=options(**LONG))
    assert load_checkpoint(tmp_path / "run" / "last.pt")["options"]["compile"] is True
    more = {"steps": 10_000, "validations": 1, "nan_limit": 1, "minutes": None}
    with pytest.warns(UserWarning, match="the run keeps its"):
        run(training=options(**more), resume=True)
    assert tried == [True]
    assert load_checkpoint(tmp_path / "run" / "last.pt")["options"]["compile"] is True
    with pytest.warns(UserWarning, match="compile was True and is False"):
        run(training=options(**more, compile=False), resume=True)


def test_a_run_that_was_killed_in_its_trial_tries_again(tried, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as until:
        until.setattr("unrolled.training.loop.compiled_is_faster", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, training=options(**LONG))
    assert load_checkpoint(tmp_path / "last.pt")["options"]["compile"] is None
    fit(tmp_path, training=options(**LONG), resume=True)
    assert tried
    assert load_checkpoint(tmp_path / "last.pt")["options"]["compile"] is True


def test_an_operator_of_any_size_that_does_not_know_its_norm_is_trained(tmp_path):
    class Unknown(Identity):
        def norm(self):
            raise ValueError("not known")

    with pytest.warns(UserWarning, match=r"Unknown, which is made inside of a function; .*load\(file, operator=…\)"):
        fit(tmp_path / "run", operator=Unknown(), training=options(steps=1, validations=1))
    assert (tmp_path / "run" / "last.pt").exists()


class Windowed(EPGN):
    """A network of a user, with arguments of NumPy and others that JSON has no word for."""

    def __init__(self, window, taps=(), kind=torch.float32, phases=1):
        super().__init__(phases, 4, threshold=np.float32(0.1))
        self.window, self.taps, self.kind = window, taps, kind


class Weighed(Identity):
    """An operator of a user, likewise."""

    image_shape = (0, 33, 33)

    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", torch.as_tensor(weight, dtype=torch.float32))

    def forward(self, x):
        return self.weight * x

    def adjoint(self, y):
        return self.weight * y


@pytest.mark.parametrize(
    "make",
    [
        lambda: Radon(np.linspace(0, 180, 7, endpoint=False), np.int64(33), 33).normalized(),
        lambda: Radon(torch.linspace(0, 150, 6), 33, 33).normalized(),
        lambda: Radon(np.int32(6), 33, 33).normalized(),
        lambda: 0.07 * FanBeam(range(0, 360, 60), 33, 33, source_distance=np.float32(70)),
        lambda: BlockCompressedSensing(ratio=np.float32(0.25)),
        lambda: np.float64(2) * BlockCompressedSensing(matrix=np.eye(4, 9), block=3),
        lambda: Stack([Identity(), Weighed(np.array([0.5]))], np.array([1, 33, 33])),
        lambda: Weighed(np.float32([[1, 0.5, 0.1]]).repeat(11, 1)),
    ],
)
def test_weights_of_operators_and_networks_with_arguments_of_numpy_load(tmp_path, make):
    network, operator = Windowed(np.hanning(5)[::-1], taps=(1, {2, 3})), make()
    fit(tmp_path / "run", network=network, operator=operator, training=options(steps=1, validations=1), crop=33)
    again, operator2 = unrolled.load(tmp_path / "run" / "best.safetensors")
    assert type(again.window) is np.ndarray
    assert np.array_equal(again.window, network.window)
    assert (again.taps, again.kind) == ((1, {2, 3}), torch.float32)
    x = HELD_OUT[0][:, :33, :33].unsqueeze(0)
    assert torch.equal(operator2(x), operator(x))


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        (torch.abs, "network.window, a builtin_function_or_method"),
        (np.zeros((200, 200)), "network.window, a ndarray"),
        (torch.nn.ReLU(), "network.window, a ReLU"),
    ],
)
def test_what_weights_cannot_hold_is_told_before_anything_is_done(tmp_path, argument, reason):
    with pytest.raises(UserWarning, match=rf"network: .* because of {reason}; .* unrolled.load\(file, network=…\)"):
        fit(tmp_path / "run", network=Windowed(argument))
    assert not (tmp_path / "run").exists()


def test_without_an_image_to_validate_on_nothing_begins(tmp_path):
    with pytest.raises(ValueError, match="validation: needs at least one image"):
        fit(tmp_path / "run", validation=[])


def test_without_matplotlib_a_run_has_no_curve_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "unrolled.figures.training_curves", None)
    with pytest.warns(UserWarning, match=r"curve.png needs matplotlib: pip install 'unrolled\[plots\]'"):
        fit(tmp_path / "run", training=options(steps=1, validations=1))
    assert not (tmp_path / "run" / "curve.png").exists()


LEVELS = [(image * 255).round().to(torch.uint8) for image in IMAGES]
HELD_LEVELS = [(image * 255).round().to(torch.uint8) for image in HELD_OUT]

FORMS = {
    "bytes": (LEVELS, HELD_LEVELS, {}),
    "floats": ([image / 255 for image in LEVELS], [image / 255 for image in HELD_LEVELS], {}),
    "arrays (height, width)": ([image[0].numpy() for image in LEVELS], [image[0].numpy() for image in HELD_LEVELS], {}),
    "one array": (np.stack([image.numpy() for image in LEVELS]), torch.stack(HELD_LEVELS), {}),
    "0 … 4095": (
        [image * (4095 / 255) for image in LEVELS],
        [image * (4095 / 255) for image in HELD_LEVELS],
        {"scale": 4095},
    ),
    "mixed": ([image / 255 for image in LEVELS], HELD_LEVELS, {}),
}


def test_images_of_every_type_give_the_same_run(tmp_path):
    scores = [
        fit(tmp_path / str(number), images, validation=held_out, **how)[2]["psnr"]
        for number, (images, held_out, how) in enumerate(FORMS.values())
    ]
    assert scores == pytest.approx([scores[0]] * len(scores), abs=1e-3)


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        ([255 * image for image in IMAGES], {}, r"dataset: image 0: values must be in \[0, 1\].* give scale"),
        ([3e-4 * image for image in IMAGES], {}, "nothing in it is brighter than"),
        (IMAGES, {"validation": [255 * HELD_OUT[0]]}, r"validation: image 0: values must be in \[0, 1\]"),
        (IMAGES, {"validation": [3e-4 * HELD_OUT[0]]}, "validation: nothing in it is brighter than"),
        (IMAGES, {"validation": HELD_OUT[0]}, "validation: an array must hold several images"),
        (IMAGES, {"validation": "folder"}, "validation: must be a list of images"),
        (IMAGES[0], {}, "dataset: an array must hold several images"),
        ([torch.polar(image, image) for image in IMAGES], {}, "dataset: has complex images, and Block.* real ones"),
        (IMAGES, {"scale": "bright"}, "scale: scale must be"),
        (TensorDataset(torch.stack(IMAGES[:1])), {"scale": 0}, "scale: scale must be"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_images_of_another_scale_are_refused_before_training(images, options, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        fit(tmp_path / "run", images, **options)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_complex_images_are_trained_on_with_the_phase_they_have(tmp_path):
    operator = MaskedFourier(RadialMask(0.4), 24, 16, complex_images=True)
    images = [torch.polar(picture(24, 16, seed), 4 * picture(24, 16, seed + 9)) for seed in range(3)]
    seen = []

    def loss(image, truth):
        seen.append(truth)
        return (image - truth).abs().square().mean()

    how = {"loss": loss, "validation": images[:1], "crop": None, "scale": None}
    network = EPGN(1, 4, complex_images=True)
    fit(tmp_path / "run", images, network, operator, options(steps=2, validations=1), **how)
    turns = [torch.rot90(image, turn, (-2, -1)) for image in images for turn in (0, 2)]
    expected = [turned for image in turns for turned in (image, image.flip(-1))]
    for truth in seen[0]:
        assert min(float((truth - image).abs().max()) for image in expected) < 1e-6


@pytest.mark.parametrize("broken", [torch.zeros(2, 1, 33, 33, dtype=torch.uint8), 200 * torch.ones(2, 1, 33, 33), None])
def test_batches_of_ones_own_are_looked_at(broken, tmp_path):
    class Mine(Batches):
        def __len__(self):
            return 2

        def batch(self, step, size, part=None):
            return broken

    with pytest.raises(ValueError, match="dataset: "):
        fit(tmp_path / "run", Mine())


def test_numbers_of_numpy_are_pythons_own_in_options_and_others_are_refused(tmp_path):
    assert type(TrainingOptions(steps=np.int64(3)).steps) is int
    assert type(ImageData(hold_out=np.int64(3)).hold_out) is int
    with pytest.raises(ValueError, match="TrainingOptions: steps must be a whole number, got '1'"):
        TrainingOptions(steps="1")
    made = EPGN(1, 2), BlockCompressedSensing(ratio=0.5, block=3)
    for wrong, said in (
        ({"seed": 1.5}, "seed: must be a whole number"),
        ({"loss": 1}, "loss: must be one of mse, .* or a function, got 1"),
        ({"noise": 0.1}, "noise: must be a function"),
        ({"crop": True}, "crop must be"),
    ):
        with pytest.raises(ValueError, match=said):
            unrolled.fit(*made, [picture(9, 9)], validation=[picture(9, 9)], folder=tmp_path / "run", **wrong)
    with pytest.raises(ValueError, match="network: must be an UnrolledNetwork"):
        unrolled.fit(torch.nn.Conv2d(1, 1, 3), made[1], [picture(9, 9)], folder=tmp_path / "run")
