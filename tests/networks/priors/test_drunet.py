"""DRUNet: the laws, what it is told, and its size."""

import pytest
import torch
import torch.nn.functional as F

from tests.networks.priors.laws import PriorLaws, disturb, images
from unrolled.networks import ComposedNetwork, DRUNet, ProximalGradientPhase
from unrolled.operators import Identity
from unrolled.reconstruction.tiles import in_tiles


class ToldTheLevel:
    def test_a_condition_is_one_before_training(self, case):
        """Told the level that another one has learned, it does what that one does."""
        torch.manual_seed(0)
        learned, z = self.cases[case](sigma=0.3), images(1, False)
        disturb(learned, "raw_sigma")
        told = self.cases[case](ranges=[(0.01, 0.2)])
        told.load_state_dict({name: value for name, value in learned.state_dict().items() if name != "raw_sigma"})
        torch.testing.assert_close(told(z, torch.full((2, 1), 0.3)), learned(z))


class TestDRUNet(ToldTheLevel, PriorLaws):
    prior_class = DRUNet
    cases = {
        "two scales": lambda **options: DRUNet(features=4, scales=2, blocks=1, **options),
        "one scale, two blocks": lambda **options: DRUNet(features=[3, 5], scales=1, blocks=2, **options),
    }


class TestPublicDRUNet(ToldTheLevel, PriorLaws):
    prior_class = DRUNet
    cases = {"without z": lambda **options: DRUNet(features=4, scales=1, blocks=1, residual=False, **options)}
    starts_at_identity = False


def test_its_size_is_that_of_the_public_one():
    with torch.device("meta"):
        sizes = [
            sum(parameter.numel() for parameter in DRUNet(channels=channels, ranges=[(0.0, 0.2)]).parameters())
            for channels in (3, 1)
        ]
    assert sizes == [32_640_960, 32_638_656]  # 32.64 M with colour


def test_image_and_noise_level_scale_together():
    prior, z = TestPublicDRUNet().make("without z", ranges=[(0.01, 0.2)])
    level = torch.tensor([[0.05], [0.1]])
    torch.testing.assert_close(prior(3 * z, 3 * level), 3 * prior(z, level))


def test_further_numbers_are_maps_of_their_own():
    prior, z = TestDRUNet().make("two scales", ranges=[(0.01, 0.2), (0.1, 0.5)])
    told = torch.tensor([[0.05, 0.2], [0.1, 0.4]])
    level, ratio = (told[:, number, None, None, None].expand(-1, 1, 12, 12) for number in range(2))
    padded = F.pad(z, (0, 1, 0, 3), "replicate")
    first = F.conv2d(torch.cat([padded, level, ratio], 1), prior.head.weight, padding=1)
    found = []
    prior.head.register_forward_hook(lambda module, given, made: found.append(made))
    prior(z, told)
    torch.testing.assert_close(found[0], first)


def test_tiles_give_the_image_of_the_whole():
    prior, _ = TestDRUNet().make("one scale, two blocks")
    network, operator, y = ComposedNetwork(ProximalGradientPhase(prior), 1), Identity(), torch.rand(1, 1, 61, 53)
    with torch.no_grad():
        torch.testing.assert_close(in_tiles(y, network, operator, 16), network(y, operator))


@pytest.mark.parametrize(
    ("key", "value"), [("features", 0), ("scales", 0), ("blocks", 0), ("sigma", 0.0), ("sigma", float("nan"))]
)
def test_bad_arguments_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=f"DRUNet: {key} must be"):
        DRUNet(**{key: value})
