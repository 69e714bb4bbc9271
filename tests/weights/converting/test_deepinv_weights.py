"""deepinv's denoisers and unfolded algorithms, with the package itself."""

import pytest
import torch

import unrolled
from tests.helpers import picture
from unrolled.operators import Identity, as_operator
from unrolled.system.vision import import_torchvision
from unrolled.weights import convert

SIDES = (32, 40)


@pytest.fixture(scope="module")
def deepinv():
    """The package; imported only where these tests run, for torchvision takes seconds."""
    import_torchvision()  # which deepinv imports
    return pytest.importorskip("deepinv", reason="deepinv is an extra")


def shaken(network):
    """In use, with all weights and statistics at random."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and "algo" not in name:
                tensor.uniform_(0.5, 1.5) if "running_var" in name else tensor.add_(0.05 * torch.randn_like(tensor))
    return network.eval()


def taken(theirs, kind, folder, **options):
    """What becomes of a network that is saved there and converted."""
    torch.save(theirs.state_dict(), folder / "theirs.pth")
    converted = convert(folder / "theirs.pth", kind, licence="BSD-3-Clause", **options)
    return converted.network, converted.operator


DENOISERS = {
    "dncnn": lambda models: models.DnCNN(1, 1, depth=4, nf=5, pretrained=None),
    "dncnn without bias, colour": lambda models: models.DnCNN(3, 3, depth=3, nf=5, bias=False, pretrained=None),
    "drunet": lambda models: models.DRUNet(1, 1, nc=(4, 6, 8, 10), nb=2, pretrained=None),
    "drunet of single blocks, colour": lambda models: models.DRUNet(3, 3, nc=(4, 6, 8, 10), nb=1, pretrained=None),
    "unet": lambda models: models.UNet(1, 1, scales=3, channels_per_scale=[4, 8, 9]),
    "unet, circular, without the image": lambda models: models.UNet(
        1, 1, residual=False, circular_padding=True, batch_norm=False, bias=False, channels_per_scale=[4, 6]
    ),
}
UNET = {"unet, circular, without the image": {"residual": False, "circular": True}}


@pytest.mark.parametrize("name", DENOISERS)
def test_a_denoiser_is_a_network_that_denoises(name, deepinv, tmp_path):
    theirs = shaken(DENOISERS[name](deepinv.models))
    kind = f"deepinv-{name.split()[0].strip(',')}"
    network, operator = taken(theirs, kind, tmp_path, **UNET.get(name, {}))
    if name == "drunet":  # of which most is to be remembered
        unrolled.save(tmp_path / "w.safetensors", network, operator)
        network, operator = unrolled.load(tmp_path / "w.safetensors")
    assert isinstance(operator, Identity)
    x = torch.stack([picture(*SIDES, seed) for seed in range(2)]).expand(-1, 3 if "colour" in name else 1, -1, -1)
    levels = torch.tensor([0.05, 0.15])
    told = {"noise": levels} if "drunet" in name else {}
    with torch.no_grad():
        expected = theirs(x, levels)
        assert (expected - x).abs().max() > 0.01
        torch.testing.assert_close(network(x, operator, **told), expected, atol=1e-5, rtol=1e-5)


def algorithm(deepinv, name, denoiser, several_priors, **options):
    """An unfolded algorithm of deepinv, of three iterations."""
    models, optim = deepinv.models, deepinv.optim
    make = {
        "dncnn": lambda: models.DnCNN(1, 1, depth=3, nf=4, pretrained=None),
        "drunet": lambda: models.DRUNet(1, 1, nc=(3, 4, 5, 6), nb=1, pretrained=None),
        "unet": lambda: models.UNet(1, 1, batch_norm=False, channels_per_scale=[4, 6]),
    }[denoiser]
    prior = [optim.PnP(make()) for _ in range(3)] if several_priors else optim.PnP(make())
    how = {"stepsize": [0.8, 0.9, 1.1], "sigma_denoiser": [0.1, 0.05, 0.2], "max_iter": 3, **options}
    return shaken(getattr(optim, name)(data_fidelity=optim.L2(), prior=prior, unfold=True, **how))


def assert_same(theirs, network, deepinv):
    torch.manual_seed(1)
    physics = deepinv.physics.Inpainting((1, *SIDES), mask=(torch.rand(1, *SIDES) > 0.5).float())
    operator = as_operator(physics)
    y = operator(picture(*SIDES)[None])
    with torch.no_grad():
        expected = theirs(y, physics)
        assert (expected - y).abs().max() > 0.01
        torch.testing.assert_close(network(y, operator), expected, atol=1e-5, rtol=1e-5)


TRAINED = {"trainable_params": ["stepsize", "sigma_denoiser"]}


@pytest.mark.parametrize(
    ("name", "denoiser", "several_priors"),
    [
        ("PGD", "dncnn", True),
        ("PGD", "drunet", False),
        ("HQS", "drunet", True),
        ("HQS", "unet", False),
        ("ADMM", "drunet", False),
        ("ADMM", "dncnn", True),
    ],
)
def test_an_unfolded_algorithm_is_a_network(name, denoiser, several_priors, deepinv, tmp_path):
    # By default everything is trained, also what nothing depends on.
    how = {} if denoiser == "dncnn" else TRAINED
    how = {**how, "beta": [0.6, 0.8, 1.2]} if name == "ADMM" and not how else how
    theirs = algorithm(deepinv, name, denoiser, several_priors, **how)
    network, _ = taken(theirs, "deepinv-unfolded", tmp_path, algorithm=name)
    assert len(network.phases) == 3
    assert_same(theirs, network, deepinv)


def test_what_was_not_trained_is_given(deepinv, tmp_path):
    theirs = algorithm(deepinv, "PGD", "drunet", False, stepsize=0.7, sigma_denoiser=0.1, trainable_params=[])
    network, _ = taken(theirs, "deepinv-unfolded", tmp_path, phases=3, step=0.7, sigma=0.1)
    assert len(network.phases) == 1  # it is shared
    assert network.repeats == 3
    assert_same(theirs, network, deepinv)


def test_what_the_older_builder_made_is_taken(deepinv, tmp_path):
    theirs = deepinv.unfolded.unfolded_builder(
        "HQS",
        params_algo={"stepsize": [0.8, 0.9], "g_param": [0.1, 0.1]},
        trainable_params=["stepsize", "g_param"],
        data_fidelity=deepinv.optim.L2(),
        prior=deepinv.optim.PnP(deepinv.models.DnCNN(1, 1, depth=3, nf=4, pretrained=None)),
        max_iter=2,
    )
    network, _ = taken(shaken(theirs), "deepinv-unfolded", tmp_path, algorithm="HQS")
    assert_same(theirs, network, deepinv)


def dncnn(prefix=""):
    shapes = {"in_conv": (4, 1, 3, 3), "conv_list.0": (4, 4, 3, 3), "out_conv": (1, 4, 3, 3)}
    found = {f"{prefix}{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    return found | {f"{prefix}{name}.bias": torch.randn(shape[0]) for name, shape in shapes.items()}


def unfolded(steps=2, priors=1):
    found = {f"params_algo.stepsize.{number}": torch.tensor(0.5) for number in range(steps)}
    for number in range(priors):
        found |= dncnn(f"prior.{number}.denoiser.")
    return found


@pytest.mark.parametrize(
    ("state", "kind", "options", "message"),
    [
        (
            {**dncnn(), "more": torch.ones(1)},
            "deepinv-dncnn",
            {},
            "w.pth: as a state of deepinv's DnCNN it also has more",
        ),
        (
            {**dncnn(), "in_conv.weight": torch.ones(4, 1, 3, 3, 3)},
            "deepinv-dncnn",
            {},
            r"layers.0.weight must be real, of the shape \(4, 1, 3, 3\), got .*\(4, 1, 3, 3, 3\)",
        ),
        ({**dncnn(), "in_conv.weight": torch.ones(())}, "deepinv-dncnn", {}, "shapes are not those of a DnCNN"),
        (
            {**dncnn(), "in_conv.weight": torch.ones(4, 2, 3, 3)},
            "deepinv-dncnn",
            {},
            r"layers.2.weight must be real, of the shape \(2, 4, 3, 3\), got .*\(1, 4, 3, 3\)",
        ),
        (dncnn(), "deepinv-unfolded", {}, "is not an algorithm that .*its names are those of --as deepinv-dncnn"),
        (unfolded(), "deepinv-dncnn", {}, "has no in_conv.weight; its names are those of --as deepinv-unfolded"),
        (unfolded(), "deepinv-unfolded", {"algorithm": "DRS"}, "algorithm: must be one of PGD, HQS, ADMM, got 'DRS'"),
        (unfolded(), "deepinv-unfolded", {"step": 0.5}, "step: is in the file, as params_algo.stepsize"),
        (unfolded(), "deepinv-unfolded", {"sigma": 0.5}, "sigma: must be left out, for the denoiser is not told it"),
        (unfolded(), "deepinv-unfolded", {"phases": 3}, "phases: must be 2, got 3"),
        (unfolded(0), "deepinv-unfolded", {"phases": 3}, "step: must be given"),
        (unfolded(1), "deepinv-unfolded", {}, "phases: must be given, as the file does not tell them, got None"),
        (unfolded(2, 3), "deepinv-unfolded", {}, r"has parts for \[2, 3\] phases"),
        (
            {**unfolded(), "params_algo.stepsize.1": torch.tensor(-1.0)},
            "deepinv-unfolded",
            {},
            "params_algo.stepsize.1 must be one finite number > 0, got",
        ),
        ({**unfolded(), "params_algo.a.0": torch.ones(())}, "deepinv-unfolded", {}, "also has params_algo.a.0"),
        (
            {"prior.0.denoiser.conv.weight": torch.ones(1)},
            "deepinv-unfolded",
            {"phases": 2},
            "prior.0.denoiser must be a DnCNN, DRUNet or UNet of deepinv, and it has conv.weight",
        ),
    ],
)
def test_what_does_not_fit_is_named(state, kind, options, message, tmp_path):
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        convert(tmp_path / "w.pth", kind, licence="x", **options)
