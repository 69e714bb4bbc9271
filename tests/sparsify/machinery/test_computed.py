"""Weights that are computed from parameters are found, refused by name where they cannot be acted on, and reported."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from unrolled.penalties import L1, Filters
from unrolled.sparsify import (
    HardConcreteGates,
    MagnitudePruning,
    NetworkSlimming,
    ProximalStep,
    VariableSplitting,
    compact,
    select_weights,
    sparsity_report,
)
from unrolled.sparsify.machinery.computed import computed_of, computed_values


class Masked(nn.Module):
    """A parametrization of one's own, with every third row 0."""

    def forward(self, weight):
        rows = torch.arange(len(weight), device=weight.device).reshape(-1, *[1] * (weight.ndim - 1))
        return weight * (rows % 3 != 0)


def older(name):
    def apply(layer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return getattr(nn.utils, name)(layer)

    return apply


def hooked(layer):
    """Its weight is twice the parameter, from its first run on."""
    layer.weight_raw = nn.Parameter(layer.weight.detach() / 2)
    del layer.weight
    layer.register_forward_pre_hook(lambda module, _: setattr(module, "weight", 2 * module.weight_raw))
    return layer


class Scaled(nn.Conv2d):
    """Its weight is a property: directions times lengths, whose names do not tell it."""

    def __init__(self, inputs, outputs, size):
        super().__init__(inputs, outputs, size)
        self.v, self.g = self._parameters.pop("weight"), nn.Parameter(torch.ones(outputs, 1, 1, 1))

    @property
    def weight(self):
        return self.g * self.v / self.v.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


def pruned_direction(layer):
    return prune.ln_structured(older("weight_norm")(layer), "weight_v", 0.5, n=2, dim=1)


KINDS = {
    "parametrized weight norm": parametrizations.weight_norm,
    "parametrized spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "one's own": lambda layer: parametrize.register_parametrization(layer, "weight", Masked()),
    "older weight norm": older("weight_norm"),
    "older spectral norm": older("spectral_norm"),
    "a mask": lambda layer: prune.ln_structured(layer, "weight", 0.5, n=2, dim=0),
    "two masks": lambda layer: prune.l1_unstructured(prune.random_unstructured(layer, "weight", 0.3), "weight", 0.3),
    "a mask of the direction": pruned_direction,
    "a hook": hooked,
    "a property": lambda layer: Scaled(layer.in_channels, layer.out_channels, layer.kernel_size),
}
every_kind = pytest.mark.parametrize("change", KINDS.values(), ids=KINDS)
IMAGE = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(0))


def network(change=lambda layer: layer):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), change(nn.Conv2d(6, 6, 3)), nn.Flatten(), nn.Linear(24, 3))


@every_kind
def test_strategies_refuse_it_by_name_and_say_what_to_do(change):
    model = network(change)
    for options in ({}, {"include": "2"}, {"groups": Filters()}):
        with pytest.raises(
            ValueError, match=r"model: 2\.weight is computed from 2\..* by .*; undo it by .*exclude='2'"
        ):
            MagnitudePruning(model, 0.5, steps=3, **options)
    for make in (lambda: ProximalStep(model, L1(), 0.1), lambda: HardConcreteGates(model, strength=1.0)):
        with pytest.raises(ValueError, match=r"2\.weight is computed"):
            make()
    with pytest.raises(ValueError, match=r"2\.weight is computed"):
        VariableSplitting(model, L1(), target=0.5, steps=3)
    assert [weight.name for weight in select_weights(model, exclude="2")] == ["0.weight", "4.weight"]


REMEDIES = {
    "parametrized weight norm": (parametrizations.weight_norm, parametrize.remove_parametrizations),
    "older weight norm": (older("weight_norm"), nn.utils.remove_weight_norm),
    "older spectral norm": (older("spectral_norm"), nn.utils.remove_spectral_norm),
    "a mask": (KINDS["a mask"], prune.remove),
}


@pytest.mark.parametrize(("change", "undo"), REMEDIES.values(), ids=REMEDIES)
def test_what_it_says_to_do_helps(change, undo):
    model = network(change)
    with pytest.raises(ValueError, match=undo.__name__):
        select_weights(model)
    name = next(one.attribute for one in computed_of(model))
    undo(model.get_submodule("2"), name)
    assert [weight.name for weight in select_weights(model)] == ["0.weight", "2.weight", "4.weight"]
    assert compact(model, IMAGE)[2].weight.shape[0] <= 6


@every_kind
def test_the_report_counts_what_the_layer_uses(change):
    model = network(change).eval()
    with torch.no_grad():
        model[0].weight[1] = 0
        model(IMAGE)
        effective = model[2].weight.clone()
        assert effective.shape == (6, 6, 3, 3)
    model.train()
    before = (
        copy.deepcopy(model.state_dict()),
        {k: v for k, v in model[2].__dict__.items() if isinstance(v, torch.Tensor)},
    )
    for report in (sparsity_report(model), sparsity_report(model, IMAGE)):
        layer = report.layers[1]
        assert [one.name for one in report.layers] == ["0.weight", "2.weight", "4.weight"]
        assert layer.nonzeros == int(effective.count_nonzero())
        assert layer.alive_filters == int(effective.flatten(1).any(1).sum())
        assert layer.alive_inputs == int(effective.transpose(0, 1).flatten(1).any(1).sum())
        assert report.other_parameters == 6 + 6 + 3
    # 2 images, 4 outputs of each filter
    assert (layer.macs, layer.nonzero_macs) == (2 * 4 * 324, 2 * 4 * layer.nonzeros)
    for name, values in model.state_dict().items():
        assert torch.equal(values, before[0][name]), name
    after = {k: v for k, v in model[2].__dict__.items() if isinstance(v, torch.Tensor)}
    assert after.keys() == before[1].keys()
    assert all(values is before[1][name] for name, values in after.items())
    assert model.training


def test_the_report_sees_what_an_optimiser_changed_since_the_last_run():
    model = network(KINDS["a mask"])
    model(IMAGE)
    with torch.no_grad():
        model[2].weight_orig[:, 0] = 0
    assert sparsity_report(model).layers[1].alive_inputs == 5


def test_a_hook_that_has_not_run_needs_an_example_or_a_run():
    model = network(hooked)
    with pytest.raises(ValueError, match=r"2\.weight is computed from 2\.weight_raw by a hook.*has not run yet"):
        sparsity_report(model)
    assert sparsity_report(model, IMAGE).layers[1].macs == 2 * 4 * 324
    assert "weight" not in model[2].__dict__


@every_kind
@pytest.mark.parametrize("ran", [False, True])
def test_compact_refuses_it_by_name(change, ran):
    model = network(change)
    if ran:
        model(IMAGE)
    with pytest.raises(ValueError, match=r"compact: 2\.weight is computed .*; undo it by "):
        compact(model, IMAGE)


def test_a_bias_that_is_computed_is_refused_with_groups_and_in_compact():
    model = network(lambda layer: prune.random_unstructured(layer, "bias", 0.5))
    sparsifier = MagnitudePruning(model, 0.5, steps=3)
    assert len(sparsifier.weights) == 3
    sparsifier.release()
    said = r"2\.bias is computed .*cannot become 0 with a dead filter; undo it by .*prune"
    with pytest.raises(ValueError, match=said):
        ProximalStep(model, L1(), 0.1, include="2", groups=Filters())
    with pytest.raises(ValueError, match=r"compact: 2\.bias is computed"):
        compact(model, IMAGE)
    assert sparsity_report(model).other_parameters == 6 + 6 + 3


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_slimming_refuses_a_norm_whose_scales_or_shifts_are_computed(name):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    prune.identity(model[1], name)
    with pytest.raises(ValueError, match=rf"1\.{name} is computed"):
        NetworkSlimming(model, L1(), 0.1)
    assert [weight.name for weight in NetworkSlimming(model, L1(), 0.1, include="3").weights] == ["3.weight"]


def test_a_parametrization_that_comes_later_is_noticed():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    sparsifier = HardConcreteGates(model, strength=1.0)
    parametrizations.weight_norm(model[0])
    with pytest.raises(ValueError, match=r"model: 0\.weight was replaced after the strategy that acts on it was made"):
        model(torch.ones(1, 3))
    optimizer = torch.optim.SGD([*model.parameters(), *sparsifier.parameters()], lr=0.1)
    with pytest.raises(ValueError, match="parameters were added or removed after HardConcreteGates was made"):
        sparsifier.step(optimizer)


def test_other_tensors_that_modules_keep_are_none_of_these():
    class Keeps(nn.Linear):
        def forward(self, x):
            self.last = super().forward(x)  # with a history, which copies cannot have
            self.seen = {"more": [2 * self.last]}
            return self.last

    model = nn.Sequential(Keeps(3, 4), nn.Linear(4, 2))
    model.register_buffer("weight_scale", torch.ones(2, 2))
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = 0, 0
    x = torch.randn(5, 3)
    model(x)
    assert computed_of(model) == []
    small = compact(model, x)
    assert small[0].out_features == 3
    torch.testing.assert_close(copy.deepcopy(small)(x), model(x))


def test_a_weight_made_by_another_module_is_known_as_computed_but_forbids_nothing_else():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    del model[1].weight
    model[1].weight = model[0].weight[:2] * 1.0
    (one,) = computed_of(model)
    assert (one.name, one.sources) == ("1.weight", {})
    assert [weight.name for weight in select_weights(model)] == ["0.weight"]
    assert torch.equal(computed_values([one])["1.weight"], model[1].weight)
    with pytest.raises(ValueError, match=r"compact: 1\.weight is computed by a hook or by its owner"):
        compact(model, torch.ones(1, 3))
