"""Steps that put channels into other places: what is dead goes where that is possible, and outputs never change."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.pairs import FULL, in_turn
from unrolled.sparsify import compaction
from unrolled.system.vision import import_torchvision

IMAGE = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0))


class Calls(nn.Module):
    """Layers, and a function of them and the input."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = [function]
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.function[0](self, x)


class Does(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = [function]

    def forward(self, x):
        return self.function[0](x)


def shuffled(x, groups=2):
    """The channel shuffle as ShuffleNet writes it."""
    batch, channels, *space = x.shape
    return x.view(batch, groups, channels // groups, *space).transpose(1, 2).reshape(batch, channels, *space)


def between(step, before=8, behind=8):
    """Convolutions before and behind a step."""
    return nn.Sequential(
        nn.Conv2d(2, before, 3, padding=1), nn.ReLU(), step, nn.Conv2d(behind, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1)
    )


def attention():
    def run(model, x):
        def heads(y):
            return y.view(len(y), 16, 2, 4).transpose(1, 2)

        x = x.flatten(2).transpose(1, 2)[:, :16]
        mixed = F.scaled_dot_product_attention(heads(model.q(x)), heads(model.k(x)), heads(model.v(x)))
        return model.out(mixed.transpose(1, 2).reshape(len(x), 16, 8))

    return Calls(run, q=nn.Linear(2, 8), k=nn.Linear(2, 8), v=nn.Linear(2, 8), out=nn.Linear(8, 3))


def split(*sizes):
    def run(model, x):
        first, *others = model.all(x).split(list(sizes), 1)
        total = model.get_submodule("part0")(first)
        for i, part in enumerate(others):
            total = total + model.get_submodule(f"part{i + 1}")(part)
        return model.last(F.relu(total))

    parts = {f"part{i}": nn.Conv2d(size, 6, 1) for i, size in enumerate(sizes)}
    return Calls(run, all=nn.Conv2d(2, sum(sizes), 1), last=nn.Conv2d(6, 1, 1), **parts)


ARCHITECTURES = {
    "pixel shuffle": lambda: between(nn.PixelShuffle(2), 16, 4),
    "pixel shuffle at the end": lambda: nn.Sequential(nn.Conv2d(2, 8, 1), nn.Conv2d(8, 9, 1), nn.PixelShuffle(3)),
    "pixel shuffles": lambda: between(nn.Sequential(nn.PixelShuffle(2), nn.PixelShuffle(2)), 32, 2),
    "pixel shuffle and a norm": lambda: between(nn.Sequential(nn.PixelShuffle(2), nn.BatchNorm2d(4)), 16, 4),
    "pixel shuffle, depthwise": lambda: between(nn.Sequential(nn.PixelShuffle(2), nn.Conv2d(4, 4, 3, groups=4)), 16, 4),
    "pixel shuffle and flatten": lambda: nn.Sequential(
        nn.Conv2d(2, 8, 1), nn.PixelShuffle(2), nn.Flatten(), nn.Linear(512, 5), nn.ReLU(), nn.Linear(5, 2)
    ),
    "pixel unshuffle": lambda: between(nn.PixelUnshuffle(2), 4, 16),
    "there and back": lambda: between(nn.Sequential(nn.PixelUnshuffle(2), nn.PixelShuffle(2)), 4, 4),
    "pixel shuffle of a part": lambda: between(Does(lambda x: F.pixel_shuffle(x.chunk(2, 1)[0], 2)), 16, 2),
    "pixel shuffle of parts together": lambda: between(Does(lambda x: F.pixel_shuffle(torch.cat([x, x], 1), 2)), 8, 4),
    "channel shuffle": lambda: between(nn.ChannelShuffle(2)),
    "channel shuffle by reshapes": lambda: between(Does(shuffled)),
    "channel shuffle in 1d": lambda: nn.Sequential(
        nn.Flatten(2), nn.Conv1d(2, 8, 3), nn.ReLU(), Does(shuffled), nn.Conv1d(8, 4, 3), nn.Conv1d(4, 1, 1)
    ),
    "largest of two channels": lambda: between(Does(lambda x: x.view(len(x), 4, 2, 8, 8).amax(2)), 8, 4),
    "repeated channels": lambda: between(Does(lambda x: x.repeat_interleave(2, 1)), 8, 16),
    "tiled channels": lambda: between(Does(lambda x: x.repeat(1, 2, 1, 1)), 8, 16),
    "turned channels": lambda: between(Does(lambda x: x.roll(1, 1).flip(1))),
    "chosen channels": lambda: between(Does(lambda x: x[:, [5, 1, 2, 0]]), 8, 4),
    "gated channels": lambda: between(nn.GLU(1), 8, 4),
    "split": lambda: split(2, 4, 3),
    "chunks": lambda: split(4, 4),
    "every second channel": lambda: between(Does(lambda x: x[:, ::2] * x[:, 1::2]), 8, 4),
    "padded channels": lambda: between(Does(lambda x: F.pad(x, (0, 0, 0, 0, 1, 1))), 8, 10),
    "group norm": lambda: between(nn.GroupNorm(2, 8)),
    "group norm as a function": lambda: between(Does(lambda x: F.group_norm(x, 2))),
    "rms norm": lambda: nn.Sequential(nn.Linear(8, 6), nn.RMSNorm(6), nn.Linear(6, 4), nn.Linear(4, 2)),
    "softmax of channels": lambda: between(nn.Softmax(1)),
    "grouped convolution": lambda: between(nn.Conv2d(8, 16, 3, groups=4), 8, 16),
    "depthwise with two outputs": lambda: between(nn.Conv2d(8, 16, 3, groups=8), 8, 16),
    "transposed": lambda: between(nn.ConvTranspose2d(8, 5, 3, 2), 8, 5),
    "transposed and grouped": lambda: between(nn.ConvTranspose2d(8, 8, 2, 2, groups=2)),
    "transposed and depthwise": lambda: between(nn.ConvTranspose2d(8, 8, 2, 2, groups=8)),
    "upsampled": lambda: between(nn.Upsample(scale_factor=2, mode="bilinear")),
    "unfolded": lambda: between(Does(lambda x: F.unfold(x, 2).unflatten(2, (7, 7))), 4, 16),
    "flat and back": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Unflatten(1, (2, 4, 4)), nn.Conv2d(2, 1, 1)
    ),
    "channels last": lambda: nn.Sequential(
        nn.Conv2d(2, 8, 1), Does(lambda x: x.permute(0, 2, 3, 1)), nn.Linear(8, 6), nn.ReLU(),
        Does(lambda x: x.permute(0, 3, 1, 2)), nn.Conv2d(6, 1, 1),
    ),
    "attention by hand": attention,
    "a recurrent layer": lambda: Calls(
        lambda m, x: m.last(m.recurrent(m.first(x.flatten(2).mT[:, :3]))[0]),
        first=nn.Linear(2, 6), recurrent=nn.GRU(6, 5, batch_first=True), last=nn.Linear(5, 1),
    ),
    "frames as channels": lambda: between(
        Does(lambda x: torch.stack([x, 2 * x], 1).flatten(1, 2)), 4, 8
    ),
    "called by keyword": lambda: Calls(
        lambda m, x: m.last(input=F.relu(m.first(input=x))), first=nn.Conv2d(2, 8, 1), last=nn.Conv2d(8, 1, 1)
    ),
    "one image of numbers": lambda: nn.Sequential(
        Does(lambda x: x.reshape(-1)[:9]), nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 4)
    ),
}  # fmt: skip


def prepared(make, dead):
    """A network of random numbers in evaluation mode, in which filters are dead, one by one or four together."""
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
            if not isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
                continue
            turned = isinstance(module, nn.ConvTranspose2d) and module.groups == 1
            weight = module.weight.transpose(0, 1) if turned else module.weight
            if dead == "fours":
                gone = (torch.rand(-(-len(weight) // 4)) < 0.5).repeat_interleave(4)[: len(weight)]
            else:
                gone = torch.rand(len(weight)) < (0.4 if dead == "some" else 1.0)
            weight[gone] = 0
            if not isinstance(module, nn.ConvTranspose2d):
                module.bias[gone] = 0
    return model


@pytest.mark.parametrize(("name", "dead"), in_turn(list(ARCHITECTURES), ["some", "fours", "all"], 1, FULL))
def test_outputs_stay_whatever_is_dead(name, dead):
    model = prepared(ARCHITECTURES[name], dead)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of channels that seemed to be removable
        result = compaction(model, IMAGE)
    for scale in (1.0, 3.0, -0.1):
        with torch.no_grad():
            torch.testing.assert_close(result.model(scale * IMAGE), model(scale * IMAGE), atol=1e-5, rtol=1e-5)
    assert result.parameters[1] <= result.parameters[0]


def kill(layer, filters):
    with torch.no_grad():
        layer.weight[filters] = 0
        layer.bias[filters] = 0


def test_what_does_not_reach_a_pixel_shuffle_goes_as_ever():
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(4, 1, 3)
    )
    kill(model[0], [0, 1, 2])
    assert compaction(model, IMAGE).removed == {"0": [0, 1, 2]}


def test_a_channel_behind_a_pixel_shuffle_goes_with_all_of_its_parts_and_only_so():
    model = between(nn.PixelShuffle(2), 16, 4)
    kill(model[0], [0, 4, 5, 6, 7, 9, 10, 11])  # the second of four as a whole
    result = compaction(model, IMAGE)
    assert result.removed == {"0": [4, 5, 6, 7]}
    assert result.model[3].in_channels == 3
    assert set(result.kept["0"]) == {0, 9, 10, 11}
    model = between(nn.PixelShuffle(2), 16, 4)
    with torch.no_grad():
        model[3].weight[:, [0, 2]] = 0  # nobody reads these
    assert compaction(model, IMAGE).removed == {"0": [0, 1, 2, 3, 8, 9, 10, 11]}


def test_of_a_pixel_shuffle_that_is_dead_one_channel_stays():
    model = between(nn.PixelShuffle(2), 16, 4)
    kill(model[0], list(range(16)))
    result = compaction(model, IMAGE)
    assert result.removed["0"] == list(range(12))
    assert result.model[3].in_channels == 1


def test_a_constant_behind_a_pixel_shuffle_moves_into_a_bias_once():
    model = between(nn.PixelShuffle(2), 16, 4)
    kill(model[0], [4, 5, 6, 7])
    with torch.no_grad():
        model[0].bias[4:8] = 0.75
    result = compaction(model, IMAGE)
    assert result.removed == {"0": [4, 5, 6, 7]}
    torch.testing.assert_close(result.model(IMAGE), model(IMAGE))
    with torch.no_grad():
        model[0].bias[5] = 0.5  # now it is a pattern
    assert compaction(model, IMAGE).removed == {}


def test_a_channel_before_a_pixel_unshuffle_goes_with_all_that_it_becomes():
    model = between(nn.PixelUnshuffle(2), 4, 16)
    kill(model[0], [2])
    result = compaction(model, IMAGE)
    assert result.removed == {"0": [2]}
    assert result.model[3].in_channels == 12


@pytest.mark.parametrize("step", [nn.ChannelShuffle(2), Does(shuffled)], ids=["torch", "reshapes"])
def test_before_a_channel_shuffle_dead_channels_stay_and_it_is_said(step):
    model = between(step)
    kill(model[0], [0, 3, 7])
    kill(model[3], [1])
    result = compaction(model, IMAGE)
    assert result.removed == {"3": [1]}
    (reason,) = set(result.kept["0"].values())
    assert reason in ("a channel shuffle mixes them", "a reshape takes channels apart or puts them together")


def test_shufflenet_loses_what_is_dead_within_its_branches():
    torch.manual_seed(0)
    models = import_torchvision("torchvision.models.shufflenetv2")
    model = models.ShuffleNetV2([1, 1, 1], [8, 16, 24, 32, 64], num_classes=5).eval()
    branch = model.stage2[0].branch2
    for layer, norm, filters in [(branch[0], branch[1], [0, 3]), (branch[5], branch[6], [2]), (*model.conv5[:2], [7])]:
        with torch.no_grad():
            layer.weight[filters] = norm.weight[filters] = norm.bias[filters] = 0
    x = torch.randn(1, 3, 32, 32)
    result = compaction(model, x)
    assert result.removed == {"stage2.0.branch2.0": [0, 3], "stage2.0.branch2.3": [0, 3], "conv5.0": [7]}
    assert list(result.kept) == ["stage2.0.branch2.5"]
    torch.testing.assert_close(result.model(x), model(x), atol=1e-5, rtol=1e-5)


def test_an_empty_example_is_refused():
    with pytest.raises(ValueError, match=r"example: must have numbers, .* got an empty tensor"):
        compaction(between(nn.Identity()), torch.randn(0, 2, 8, 8))
