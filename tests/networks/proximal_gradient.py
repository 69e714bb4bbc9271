"""What networks of proximal gradient steps have beside the laws of every network, as a test case to inherit."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unrolled
from tests.helpers import picture
from tests.networks.laws import NetworkLaws, measured
from unrolled.networks import LinearStart
from unrolled.networks.shrinkage import Shrinkage, ShrinkageMixture
from unrolled.operators import BlockCompressedSensing
from unrolled.penalties import L1, MCP, LogSum


class ProximalGradientLaws(NetworkLaws):
    """Their maps see one channel, shrink by a penalty, and start at zero; their phases can be one."""

    def contracting(self, network):
        # Where every pixel is measured, phases of steps α and β contract by 1 − β(1 − α), (1 − α)(1 − β) or 1 − α.
        raw = {"raw_alpha": -1.508, "raw_beta": 0.2915, "raw_step": 0.2915}  # of steps 0.2, 0.85, 0.85
        with torch.no_grad():
            for key, parameter in network.named_parameters():
                if (last := key.rpartition(".")[2]) in raw:
                    parameter.fill_(raw[last])

    def test_untrained_it_is_gradient_descent_from_its_start(self, case):
        network = self.cases[case](phases=3)
        operator, x = BlockCompressedSensing(ratio=0.25, block=11), picture(22, 33).unsqueeze(0)
        y = operator(x)
        start, *images = network.iterates(y, operator)
        # The linear start already agrees with the measurements, so the gradient is nothing.
        for image in images:
            torch.testing.assert_close(image, start, atol=1e-4, rtol=0)

    def test_untrained_on_complex_images_it_comes_nearer_to_the_measurements(self, case):
        network, (operator, x) = self.cases[case](phases=2, complex_images=True), measured("complex")
        y = operator(x)
        assert (operator(network(y, operator)) - y).norm() < (operator(operator.adjoint(y)) - y).norm()

    def test_channels_do_not_mix(self, case, kind):
        network, operator, x = self.make(case, kind)
        y = operator(x)
        torch.testing.assert_close(network(y.transpose(0, 1), operator).transpose(0, 1), network(y, operator))

    def test_the_parts_of_complex_images_are_seen_together(self, case):
        network, operator, x = self.make(case, "complex")
        y = operator(x)
        # Were the parts maps of their own, a network would give i·x for i·y.
        assert (network(1j * y, operator) - 1j * network(y, operator)).abs().max() > 1e-4

    def test_shared_phases_have_the_weights_of_one(self, case):
        network, operator, x = self.make(case, phases=4, shared=True)
        assert network.parameter_count == self.cases[case](phases=1).parameter_count
        assert len(network.iterates(operator(x), operator)) == 5
        torch.testing.assert_close(network.fuse()(operator(x), operator), network(operator(x), operator))

    def test_fused_it_has_plain_convolutions(self, case):
        fused = self.make(case)[0].fuse()
        assert "ConvolutionPair" not in {type(module).__name__ for module in fused.modules()}
        assert [m.kernel_size for m in fused.modules() if isinstance(m, nn.Conv2d)].count((5, 5)) == 4

    def test_the_penalty_that_is_asked_for_is_in_every_phase(self):
        for penalty, learn in (([L1(), MCP(1.0, 0.1)], True), (LogSum(0.1), True), (LogSum(0.1), False), (None, False)):
            network = self.network_class(phases=3, features=2, penalty=penalty, learn_penalty=learn)
            kinds = (Shrinkage, ShrinkageMixture)
            layers = [module for phase in network.phases for module in phase.modules() if isinstance(module, Shrinkage)]
            outer = [module for phase in network.phases for module in phase.modules() if isinstance(module, kinds)]
            wanted = penalty if isinstance(penalty, list) else [L1() if penalty is None else penalty]
            assert [layer.penalty for layer in layers] == wanted * 3
            assert len(outer) == 3 * (1 + len(wanted) if len(wanted) > 1 else 1)
            learned = sum(len(layer.raw_parameters) for layer in layers)
            assert learned == (3 * sum(len(vars(one)) for one in wanted) if learn else 0)

    def test_weights_carry_the_shrinkage_and_what_it_learned(self, case, tmp_path):
        network, operator, _ = self.make(case)
        unrolled.save(tmp_path / "w.safetensors", network, operator)
        again, _ = unrolled.load(tmp_path / "w.safetensors")
        found, expected = (
            [repr(module.current_penalty) for module in one.modules() if isinstance(module, Shrinkage)]
            for one in (again, network)
        )
        assert found == expected

    @pytest.mark.parametrize(("key", "value"), [("phases", 0), ("features", 0), ("threshold", -1.0), ("phases", 2.5)])
    def test_bad_arguments_are_refused_by_name(self, key, value):
        with pytest.raises(ValueError, match=rf"{key} must be"):
            self.network_class(**{key: value})

    def test_the_default_start_is_linear(self):
        assert isinstance(self.network_class(1).start, LinearStart)


def randomised(network):
    """In double precision, all weights at random."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.double()


def conv(x: Tensor, weight: Tensor, padding: int = 0) -> Tensor:
    return F.conv2d(x, weight, padding=padding)


def soft(x: Tensor, t: Tensor) -> Tensor:
    return x.sign() * (x.abs() - t).clamp(min=0)


def pair(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """One 3×3 convolution after the other, padded once."""
    return conv(conv(x, first, 2), second)


def parts(x: Tensor) -> Tensor:
    """Real and imaginary part of images (batch, 1, height, width), as two channels."""
    return torch.cat([x.real, x.imag], dim=1) if x.is_complex() else x


def image(x: Tensor) -> Tensor:
    """The inverse of `parts`."""
    return torch.complex(x[:, :1], x[:, 1:]) if x.shape[1] == 2 else x
