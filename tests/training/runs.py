"""Small runs that the tests of training share."""

import torch

import unrolled
from tests.helpers import picture
from unrolled import TrainingOptions
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing
from unrolled.training import Task

IMAGES = [picture(60, 70, seed) for seed in range(4)]
HELD_OUT = [picture(40, 50, 9)]


def options(**changes):
    return TrainingOptions(**{"steps": 12, "batch": 2, "warmup": 2, "validations": 3, "average": 0.5, **changes})


def pieces(seed=0):
    torch.manual_seed(seed)
    return EPGN(1, 4), BlockCompressedSensing(ratio=0.25, block=11)


def fit(folder, dataset=IMAGES, network=None, operator=None, training=None, **more):
    made = pieces()
    network, operator = network or made[0], operator or made[1]
    more = {"validation": HELD_OUT, "crop": 22, "progress": False, "folder": folder, **more}
    return network, operator, unrolled.fit(network, operator, dataset, training or options(), **more)


class Line(Task):
    """Another task: fit a line. The loop must not know of images."""

    epoch, score = 8, "fit"

    def __init__(self):
        self.model = torch.nn.Linear(1, 1)

    def batch(self, step, size, part=None):
        return torch.randn(size, 1, generator=torch.Generator().manual_seed(step))

    def loss(self, model, batch, step):
        return (model(batch) - (3 * batch + 1)).square().mean()

    def validate(self, model):
        return {"fit": -(model.weight - 3).abs().max().item()}

    def save(self, model, path, card):
        torch.save(model.state_dict(), path)
