"""The report against numbers of the literature, counts by hand, and torch's own sparse format."""

import json
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unrolled.sparsify import sparsity_report
from unrolled.system.vision import import_torchvision


def lenet():
    """LeNet-5 as in Caffe: 20 and 50 maps, 800 and 500 units."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


def test_lenet_5_by_hand():
    report = sparsity_report(lenet(), torch.zeros(1, 1, 28, 28))
    assert [layer.macs for layer in report.layers] == [24 * 24 * 500, 8 * 8 * 25000, 400_000, 5000]
    assert report.total.weights == 430_500
    assert report.total.bytes == 4 * 430_500
    assert report.other_parameters == 580
    assert report.other_macs == 0


def test_resnet_18_as_published():
    with torch.device("meta"):
        model = import_torchvision("torchvision.models").resnet18()
    model = model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    report = sparsity_report(model, torch.zeros(1, 3, 224, 224))
    assert report.total.macs == 1_814_073_344
    assert report.total.weights + report.other_parameters == 11_689_512


LAYERS = {
    "1d": (lambda: nn.Conv1d(4, 6, 3, padding=1), (2, 4, 9)),
    "2d, dilated and with a stride": (lambda: nn.Conv2d(4, 6, 3, 2, dilation=2), (2, 4, 9, 11)),
    "3d": (lambda: nn.Conv3d(4, 2, 2), (1, 4, 3, 4, 5)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), (2, 4, 5, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, 2), (2, 4, 5, 5)),
    "transposed and grouped": (lambda: nn.ConvTranspose1d(4, 6, 3, groups=2), (2, 4, 5)),
    "dense": (lambda: nn.Linear(4, 6), (3, 4)),
    "dense, on tokens": (lambda: nn.Linear(4, 6), (3, 7, 4)),
}


def multiplications(layer, x, weight):
    """How many products of a number of the input and one of the weight there are, both given as 0 and 1."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight).sum()
    options = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, "groups": layer.groups}
    names = {nn.Conv1d: "conv1d", nn.Conv2d: "conv2d", nn.Conv3d: "conv3d"}
    names |= {nn.ConvTranspose1d: "conv_transpose1d", nn.ConvTranspose2d: "conv_transpose2d"}
    padding = options.pop("padding")
    if not layer.transposed:  # the zeros around the image are multiplied too
        x = F.pad(x, [p for side in reversed(padding) for p in (side, side)], value=1.0)
    return getattr(F, names[type(layer)])(x, weight, **options).sum()


@pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
def test_every_layer_against_a_count_of_all_products(make, shape):
    torch.manual_seed(0)
    layer = make()
    outputs = 1 if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d) else 0
    with torch.no_grad():
        layer.weight[torch.rand(layer.weight.shape) < 0.4] = 0
        layer.weight.select(outputs, 1).zero_()
        layer.weight.select(1 - outputs, 0).zero_()
    (row,) = sparsity_report(layer, torch.randn(shape)).layers
    x = torch.ones(shape)
    assert row.macs == multiplications(layer, x, torch.ones_like(layer.weight))
    assert row.nonzero_macs == multiplications(layer, x, (layer.weight != 0).float())
    assert row.nonzeros == layer.weight.count_nonzero()
    # A filter is alive if its output depends on the input, an input channel if the output depends on it.
    x = torch.randn(shape, requires_grad=True)
    axis = -1 if isinstance(layer, nn.Linear) else 1
    y = layer(x)
    (gradient,) = torch.autograd.grad((y * torch.randn_like(y)).sum(), x)
    assert row.inputs == shape[axis]
    assert row.alive_inputs == gradient.abs().movedim(axis, 0).flatten(1).sum(1).count_nonzero()
    bias = layer.bias.reshape([-1] + [1] * (y.ndim - 2 if axis == 1 else 0))
    assert row.filters == y.shape[axis]
    assert row.alive_filters == ((y - bias).abs() > 1e-6).movedim(axis, 0).flatten(1).any(1).sum()


def test_what_is_alive_costs_as_a_layer_of_that_size():
    layer, small = nn.Conv2d(6, 8, 3), nn.Conv2d(4, 5, 3)
    with torch.no_grad():
        layer.weight[[0, 3, 4]] = 0
        layer.weight[:, [1, 5]] = 0
    (row,) = sparsity_report(layer, torch.randn(2, 6, 9, 9)).layers
    assert row.alive_macs == sparsity_report(small, torch.randn(2, 4, 9, 9)).total.macs
    assert row.alive_macs == row.nonzero_macs


def test_attention_counts_projections_heads_and_products_without_weights():
    torch.manual_seed(0)
    width, tokens, others, batch = 8, 5, 7, 3
    model = nn.MultiheadAttention(width, 2, batch_first=True)
    with torch.no_grad():
        model.in_proj_weight[:width] = 0  # the queries
    q, kv = torch.randn(batch, tokens, width), torch.randn(batch, others, width)
    for example in [(q, kv, kv), {"query": q, "key": kv, "value": kv, "need_weights": False}]:
        report = sparsity_report(model, example)
        inside, outside = report.layers
        assert inside.name == "in_proj_weight"
        assert inside.macs == batch * width * width * (tokens + 2 * others)
        assert inside.nonzero_macs == inside.alive_macs == batch * width * width * 2 * others
        assert outside.macs == batch * width * width * tokens
        assert report.other_macs == 2 * batch * tokens * others * width
    assert report.total.macs == inside.macs + outside.macs + report.other_macs


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers(kind):
    report = sparsity_report(kind(4, 6, batch_first=True), torch.randn(2, 5, 4))
    gates = 4 if kind is nn.LSTM else 3
    assert [layer.macs for layer in report.layers] == [2 * 5 * gates * 6 * 4, 2 * 5 * gates * 6 * 6]


class Shared(nn.Module):
    """Runs a layer several times, and uses its weight in another one too."""

    def __init__(self):
        super().__init__()
        self.layer, self.twin = nn.Linear(4, 4), nn.Linear(4, 4)
        self.twin.weight = self.layer.weight
        self.norm, self.table = nn.BatchNorm1d(4), nn.Embedding(9, 4)

    def forward(self, x, times):
        for _ in range(times):
            x = self.layer(x)
        return F.linear(self.norm(self.twin(x)), self.layer.weight)


def test_shared_weights_are_counted_once_and_their_use_every_time():
    model = Shared()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = sparsity_report(model, (torch.randn(2, 4), 3))
    assert [layer.name for layer in report.layers] == ["layer.weight"]
    assert report.total.macs == 2 * 16 * 5
    assert report.other_parameters == 4 + 4 + 8 + 36
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sparse_bytes_are_those_of_torchs_own_format(dtype):
    torch.manual_seed(0)
    layer = nn.Linear(30, 20, dtype=dtype)
    with torch.no_grad():
        layer.weight[torch.rand(20, 30) < 0.8] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format is said to be new
        sparse = layer.weight.detach().to_sparse_csr()
    parts = [sparse.values(), sparse.col_indices().int(), sparse.crow_indices().int()]
    assert sparsity_report(layer).total.sparse_bytes == sum(part.nbytes for part in parts)


def test_as_text_and_as_json(tmp_path):
    model = lenet()
    with torch.no_grad():
        model[0].weight[:5] = 0
    report = sparsity_report(model)
    report.save(tmp_path / "deep" / "report.json")
    content = json.loads((tmp_path / "deep" / "report.json").read_text())
    assert content == json.loads(report.json())
    assert content["layers"][0]["alive_filters"] == 15
    assert content["layers"][0]["macs"] is None
    assert content["total"]["nonzeros"] == 430_500 - 125
    text = str(report)
    assert "20×1×5×5" in text
    assert "15/20" in text
    assert "multiply-adds" not in text
    assert len({len(line) for line in text.splitlines()[:6]}) == 1
    counted = str(sparsity_report(model, torch.zeros(1, 1, 28, 28)))
    assert "2,293,000" in counted
    assert f"{2_293_000 - 125 * 24 * 24:,}" in counted
    assert math.isclose(report.layers[0].sparsity, 0.25)


def test_bad_input():
    with pytest.raises(ValueError, match=r"model must be a torch\.nn\.Module, got int"):
        sparsity_report(3)
    with pytest.raises(ValueError, match="ReLU has no parameter with two axes"):
        sparsity_report(nn.ReLU())
    with pytest.raises(ValueError, match="has no shape yet"):
        sparsity_report(nn.LazyLinear(3))
    with pytest.raises(ValueError, match="example: the model cannot be run on it"):
        sparsity_report(nn.Linear(3, 2), torch.ones(1, 4))


def test_an_example_of_numpy_is_run_in_the_precision_of_the_model():
    assert sparsity_report(nn.Linear(4, 3), np.ones((5, 4))).total.macs == 60
