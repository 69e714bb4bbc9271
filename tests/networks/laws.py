"""Every law of an unrolled network, as a test case to inherit."""

import copy
import functools
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import unrolled
from tests.helpers import assert_alike, picture
from unrolled.data import with_fixed_phase
from unrolled.metrics import psnr
from unrolled.networks import (
    AdjointStart,
    ConjugateGradientStart,
    Implicit,
    Recompute,
    Unroll,
    UnrolledNetwork,
)
from unrolled.networks.composed import PARTS
from unrolled.operators import (
    BlockCompressedSensing,
    Coils,
    Identity,
    LinearOperator,
    MaskedFourier,
    MultiCoilFourier,
    RadialMask,
    UniformMask,
    as_operator,
)
from unrolled.reconstruction.tiles import in_tiles
from unrolled.system.recipes import build, describe
from unrolled.training import distributed
from unrolled.training.tasks.reconstruction import Reconstructor

Case = Callable[..., UnrolledNetwork]
Made = tuple[UnrolledNetwork, LinearOperator, Tensor]

KINDS = ("real", "complex")


class NetworkLaws:
    """Inherit, name the class and the cases, and every law is tested of each of them.

    A case makes a small network of the options `phases`, `differentiation` and `complex_images`; if it has a fixed
    point, it can also be asked for phases that are one, by `shared`. Laws that take a `kind` are tested on real and on
    complex images: of block measurements and of several coils, if the class does not say otherwise by its methods
    `measured`, `tiny` and `learned_operator`. A class of networks that no test case names fails
    `test_every_network_has_laws`.
    """

    network_class: ClassVar[type[UnrolledNetwork]]
    cases: ClassVar[dict[str, Case]]
    no_tiles: ClassVar[str | None] = None
    """The reason by which tiles are refused, where they are."""
    no_implicit: ClassVar[str | None] = None
    """The reason by which `Implicit` is refused, where it is."""
    no_sets: ClassVar[str | None] = None
    """The reason by which several sets of maps are refused, where they are."""
    rate: ClassVar[float] = 5e-3
    """At which it learns."""
    implicit_options: ClassVar[dict] = {"shared": True}
    one_operator: ClassVar[str | None] = None
    """The reason by which operators of other images than those of `measured` are refused, where they are."""
    narrow: ClassVar[bool] = True
    """Whether a part of it runs in bfloat16 when that is asked for."""

    def measured(self, kind: str) -> tuple[LinearOperator, Tensor]:
        """An operator, and a batch of three images for it."""
        return measured(kind)

    def tiny(self, kind: str) -> tuple[LinearOperator, Tensor]:
        """An operator on few pixels, and one image for it."""
        if kind == "real":
            return BlockCompressedSensing(measurements=4, block=3), pictures(6, 6)[:1]
        return MaskedFourier(RadialMask(0.5), 4, 5, complex_images=True), pictures(4, 5, True)[:1]

    def whole(self, kind: str) -> tuple[LinearOperator, Tensor]:
        """An operator by which all of an image is known, and a batch of images for it."""
        x = self.measured(kind)[1][..., :9, :9]
        if kind == "real":
            return BlockCompressedSensing(measurements=81, block=9), x
        return MultiCoilFourier(Coils(3), torch.ones(9, 9)), x

    def learned_operator(self) -> LinearOperator:
        """An operator on the real images of `measured` that learns."""
        return BlockCompressedSensing(ratio=0.25, block=11, learned=True)

    def refuses(self, operator: LinearOperator, x: Tensor, **options) -> bool:
        """Whether the class takes one operator alone; then that it refuses this one, by its reason."""
        if self.one_operator is None:
            return False
        network = self.make(next(iter(self.cases)), "complex" if x.is_complex() else "real", **options)[0]
        with pytest.raises(ValueError, match=self.one_operator):
            network(operator(x), operator)
        return True

    def make(self, case: str, kind: str = "real", noise: float = 0.05, **options) -> Made:
        """A network whose weights are all at random, as after training, an operator, and a batch of images."""
        torch.manual_seed(0)
        network = self.cases[case](**{"phases": 2, "complex_images": kind == "complex", **options})
        assert type(network) is self.network_class
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
        return network, *self.measured(kind)

    def contracting(self, network: UnrolledNetwork) -> None:
        """Change the weights so that the phases approach a fixed point if all of an image is measured."""
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim == 4:  # priors change little by filters that are small
                    parameter.mul_(0.5)

    def test_reconstructs_images_of_the_shape_and_kind_of_the_start(self, case, kind):
        network, operator, x = self.make(case, kind)
        y = operator(x)
        image, start = network(y, operator), network.first_image(y, operator)
        assert image.shape == start.shape == x.shape
        assert image.dtype == start.dtype == x.dtype
        assert (image - start).abs().max() > 1e-4

    def test_iterates_begin_with_the_start_and_end_with_the_reconstruction(self, case, kind):
        network, operator, x = self.make(case, kind)
        y = operator(x)
        images = network.iterates(y, operator)
        assert len(images) == 3
        torch.testing.assert_close(images[0], network.first_image(y, operator))
        torch.testing.assert_close(images[-1], network(y, operator))

    def test_images_of_a_batch_do_not_mix(self, case, kind):
        network, operator, x = self.make(case, kind)
        y = operator(x)
        together = network(y, operator)
        for index in range(len(x)):
            torch.testing.assert_close(together[index : index + 1], network(y[index : index + 1], operator))

    def test_masks_and_maps_of_each_image_are_for_that_image(self, case):
        network, x = self.make(case, "complex")[0], pictures(16, 14, True)
        masks = torch.stack([UniformMask(0.5, seed).draw(16, 14)[None] for seed in range(len(x))])
        maps = torch.stack([Coils(3, radius).draw(16, 14) for radius in (1.2, 1.5, 2.0)])
        several = torch.stack([maps, maps.roll(7, -1)], dim=1) / 2**0.5  # of an object that is folded
        for sets, images in ((maps, x), (several, torch.cat([x, x.flip(-1)], dim=1))):
            operator = MultiCoilFourier(sets, masks)
            if self.refuses(operator, images):
                continue
            y = operator(images)
            if operator.sets and self.no_sets is not None:
                with pytest.raises(ValueError, match=self.no_sets):
                    network(y, operator)
                return
            together = network(y, operator)
            assert together.shape == images.shape
            for here in (slice(number, number + 1) for number in range(len(x))):
                torch.testing.assert_close(together[here], network(y[here], operator.of_images(here)))

    def test_works_with_any_operator(self, case):
        network, _, _ = self.make(case)
        blur = torch.full((1, 1, 3, 3), 1 / 9)
        operator = as_operator((lambda x: torch.conv2d(x, blur, padding=1),) * 2, shape=(1, 10, 13))
        x = picture(10, 13).unsqueeze(0)
        if not self.refuses(operator, x):
            assert network(operator(x), operator).shape == (1, 1, 10, 13)

    def test_images_that_it_is_not_made_for_are_refused(self, case):
        fourier, blocks = (
            MaskedFourier(RadialMask(0.3), 16, 16, complex_images=True),
            BlockCompressedSensing(0.5, block=8),
        )
        x, name = picture(16, 16).unsqueeze(0), self.network_class.__name__
        for operator, kind, message in (
            (fourier, "real", "made for real images, and MaskedFourier measures complex ones; make it with .*=True"),
            (blocks, "complex", "made for complex images, and Block.* measures real ones; make it with .*=False"),
        ):
            network, y = self.make(case, kind)[0], operator(x)
            for use in (network, network.iterates, lambda y, operator, network=network: network.loss(x, y, operator)):
                with pytest.raises(ValueError, match=f"{name}: {message}"):
                    use(y, operator)

    def test_measurements_of_any_type_are_taken_in_its_own_precision(self, case, kind):
        network, operator, x = self.make(case, kind, phases=1)
        y = operator((8 * x.abs()).round())
        y = torch.view_as_complex(torch.view_as_real(y).round()) if y.is_complex() else y.round()
        expected = network(y, operator).detach()
        given = [
            y.numpy().astype(complex if y.is_complex() else float),
            y.to(torch.promote_types(y.dtype, torch.float64)),
        ]
        given += [y.tolist()] if y.is_complex() else [y.short(), y.numpy()[..., ::-1].copy()[..., ::-1]]
        for numbers in given:
            for found in (network(numbers, operator), network.iterates(numbers, operator)[-1]):
                assert found.dtype == x.dtype
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))

    def test_measurements_that_it_cannot_mean_are_refused_before_any_convolution(self, case):
        network, operator, x = self.make(case, phases=1)
        y, name = operator(x), self.network_class.__name__
        identity = as_operator((torch.clone, torch.clone), shape=(1, *x.shape[2:]))
        short = self.one_operator or r"measurements must be \(batch, 1,"
        for numbers, measures, message in (
            (None, operator, f"{name}: measurements: must be an array of numbers, got None"),
            ("y", operator, f"{name}: measurements: must be an array of numbers, got 'y'"),
            (y[0], operator, "measurements must be"),
            (y[:0], operator, "measurements must"),
            (x[..., :1, :], identity, short),
            (
                y.double(),
                operator.double(),
                f"{name}: calculates in torch.float32, and .* in torch.float64",
            ),
        ):
            for use in (network, network.iterates, functools.partial(network.loss, x)):
                with pytest.raises(ValueError, match=message):
                    use(numbers, measures)

    def test_phases_follow_the_sampling_ratio_where_they_are_told_it(self, case, monkeypatch):
        plain, operator, x = self.make(case)
        if "ratio_range" not in plain.arguments or plain.arguments.get("phase") is not None:
            return  # what a phase is told, its parts state
        network, *_ = self.make(case, ratio_range=(0.01, 1.0))
        y = operator(x)
        found = network(y, operator)
        for ratio, same in ((operator.sampling_ratio, True), (0.02, False)):
            monkeypatch.setattr(type(operator), "sampling_ratio", ratio)
            assert torch.equal(network(y, operator), found) is same
        assert "ratio_range" in network.description()
        assert "ratio_range" not in plain.description()

    def test_a_noise_level_that_it_does_not_take_is_refused(self, case):
        network, operator, x = self.make(case)
        if network.takes_noise:
            assert not torch.equal(network(operator(x), operator, noise=0.5), network(operator(x), operator, noise=0.1))
            return
        for use in (network, network.iterates):
            with pytest.raises(ValueError, match=f"{self.network_class.__name__}: noise must be None"):
                use(operator(x), operator, noise=0.1)

    def test_every_parameter_receives_a_gradient(self, case, kind):
        network, operator, x = self.make(case, kind)
        network.loss(x, operator(x), operator).backward()
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.norm() > 0, key

    def test_trains_a_learned_matrix(self, case):
        network, _, x = self.make(case)
        operator = self.learned_operator()
        network.loss(x, operator(x), operator).backward()
        for parameter in operator.parameters():
            assert torch.isfinite(parameter.grad).all()
            assert parameter.grad.norm() > 0

    def test_gradients_equal_finite_differences(self, case, kind):
        network, (operator, x) = self.make(case, kind, phases=1)[0], self.tiny(kind)
        network, operator, x = network.double(), operator.double(), double(x)
        y, parameters = operator(x), list(network.parameters())
        how = {"eps": 1e-7, "atol": 1e-5, "nondet_tol": 1e-12, "fast_mode": True}
        torch.autograd.gradcheck(lambda y, *_: network(y, operator), (y.clone().requires_grad_(), *parameters), **how)
        torch.autograd.gradcheck(lambda *_: network.loss(x, y, operator), parameters, **how)

    def test_a_few_steps_of_training_beat_the_start(self, case, kind):
        network, operator, x = self.make(case, kind, noise=0.0)
        x = x[:1]
        if operator.image_shape is None:  # fewer pixels, so that it takes less time
            x = x[..., :22, :22]
        y = operator(x)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.rate)
        steps = {"real": 80, "complex": 30}[kind]
        # It falls at the end, so that the gain is not that of an unlucky last step.
        falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 4 * (1 - step / steps)))
        for _ in range(steps):
            optimizer.zero_grad()
            network.loss(x, y, operator).backward()
            optimizer.step()
            falling.step()
        with torch.no_grad():
            gain = psnr(network(y, operator), x) - psnr(network.first_image(y, operator), x)
        assert gain.mean() > 1

    def test_recomputing_gives_the_image_and_the_gradient_of_unrolling(self, case, every):
        loss, gradients = self.loss_and_gradients(case, "real", phases=5, differentiation=Unroll())
        again, recomputed = self.loss_and_gradients(case, "real", phases=5, differentiation=Recompute(every))
        assert again == loss
        torch.testing.assert_close(recomputed, gradients, rtol=1e-12, atol=1e-14)

    def test_recomputing_does_so_on_complex_images(self, case):
        _, gradients = self.loss_and_gradients(case, "complex", differentiation=Unroll())
        _, recomputed = self.loss_and_gradients(case, "complex", differentiation=Recompute())
        torch.testing.assert_close(recomputed, gradients, rtol=1e-12, atol=1e-14)

    def test_the_implicit_gradient_is_that_of_many_unrolled_phases(self, case, kind, monkeypatch):
        # Conjugate gradients as exact as what is compared here.
        monkeypatch.setitem(LinearOperator.solve.__kwdefaults__, "tolerance", 1e-13)
        if self.no_implicit is not None:
            with pytest.raises(ValueError, match=self.no_implicit):
                self.make(case, kind, differentiation=Implicit())
            return
        options = {"phases": 40, **self.implicit_options}
        loss, gradients = self.loss_and_gradients(case, kind, True, differentiation=Unroll(), **options)
        ways = {"converged": Implicit(iterations=300, tolerance=1e-14), "last": Implicit(iterations=1, tolerance=1.0)}
        again, implicit = self.loss_and_gradients(case, kind, True, differentiation=ways["converged"], **options)
        torch.testing.assert_close(again, loss)
        scale = max(float(gradient.abs().max()) for gradient in gradients)
        assert scale > 1e-6
        for found, expected in zip(implicit, gradients, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10 * scale)
        # And not merely the gradient of the last phase.
        _, last = self.loss_and_gradients(case, kind, True, differentiation=ways["last"], **options)
        assert max(float((a - b).abs().max()) for a, b in zip(last, gradients, strict=True)) > 1e-3 * scale

    def loss_and_gradients(self, case: str, kind: str, contracting: bool = False, **options):
        """In double precision; of contracting phases on images of which everything is measured."""
        network, operator, x = self.make(case, kind, 0.1 if contracting else 0.05, **options)
        if contracting:
            self.contracting(network)
            operator, x = self.whole(kind)
        network, operator, x = network.double(), operator.double(), double(x[:2])
        # All that is measured is found, and the gradient at the truth would be 0.
        loss = network.loss(0 * x if contracting else x, operator(x), operator)
        return loss, torch.autograd.grad(loss, list(network.parameters()))

    def test_tiles_give_the_image_of_the_whole(self, case, tile):
        network, operator, _ = self.make(case, noise=0.1)
        if self.no_tiles is not None:
            with pytest.raises(ValueError, match=self.no_tiles):
                in_tiles(pictures(22, 66), network, Identity(), tile)
            return
        y = operator(pictures(22, 66)[:2] if tile == 1 else pictures(66, 99)[:2])
        with torch.no_grad():
            expected = network(y, operator)
        assert 0.1 < expected.std() < 2
        torch.testing.assert_close(in_tiles(y, network, operator, tile), expected, atol=1e-5, rtol=0)

    def test_what_a_phase_looks_at_is_no_less_than_it_says(self, case, monkeypatch):
        if self.no_tiles is not None:
            return
        network, operator, _ = self.make(case, noise=0.1)
        y = operator(pictures(66, 99)[:2])
        for phase in network.phases:
            # With a smaller reach than it has, seams must show: the test above would see them.
            monkeypatch.setattr(phase, "reach", 0)
            monkeypatch.setattr(phase, "data_steps", 1)
        with torch.no_grad():
            difference = (in_tiles(y, network, operator, 22) - network(y, operator)).abs().max()
        assert difference > 1e-3

    def test_compiles_to_one_graph_with_the_same_result(self, case, fresh_compiler):
        first = case == next(iter(self.cases))  # of it the image, a real one, of others the loss of complex images
        network, operator, x = self.make(case, "real" if first else "complex", phases=1)
        y, weights = operator(x), list(network.parameters())
        function, arguments = (network, (y, operator)) if first else (network.loss, (x, y, operator))
        expected = function(*arguments)  # also fills the cache of the start
        backend = "aot_eager" if first else "eager"  # which does not take the time to trace gradients, too
        found = torch.compile(function, fullgraph=True, backend=backend)(*arguments)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        gradients, again = (torch.autograd.grad(one.square().sum(), weights) for one in (expected, found))
        torch.testing.assert_close(again, gradients, atol=1e-5, rtol=1e-4)

    def test_bfloat16_and_channels_last_reach_only_the_learned_part(self, case, kind):
        network, operator, x = self.make(case, kind)
        y = operator(x)
        start, expected = network.first_image(y, operator), network(y, operator)
        last = copy.deepcopy(network).to(memory_format=torch.channels_last)
        torch.testing.assert_close(last(y, operator), expected, atol=1e-5, rtol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(operator(x), y)
            first, *_, image = network.iterates(y, operator)
        assert first.dtype == image.dtype == x.dtype
        torch.testing.assert_close(first, start)
        error = (image - expected).abs().max()
        assert 0 < error < 0.03 if self.narrow else error < 1e-6

    def test_is_the_same_on_every_device(self, case, device):
        network, operator, x = self.make(case, phases=1)
        parameters = list(network.parameters())

        def everything(x):
            y = operator(x)
            loss = network.loss(x, y, operator)
            return [network(y, operator), loss, *torch.autograd.grad(loss, parameters)]

        expected = everything(x)
        network.to(device, memory_format=torch.channels_last)
        operator.to(device)
        for found, here in zip(everything(x.to(device)), expected, strict=True):
            assert_alike(found.detach(), here.detach(), device)
        with torch.autocast(device.type, torch.bfloat16):
            assert_alike(network(operator(x.to(device)), operator).detach(), expected[0].detach(), device, 0.1)

    @pytest.mark.device
    def test_is_moved_to_another_device(self, case, kind):
        network, operator, x = self.make(case, kind)
        y = operator(x)
        network, operator, y, x = network.to("meta"), operator.to("meta"), y.to("meta"), x.to("meta")
        # Fails if something is made on another device, or a value is asked for.
        assert network(y, operator).is_meta
        network.loss(x, y, operator).backward()
        assert all(parameter.grad.is_meta for parameter in network.parameters())

    def test_is_copied_described_saved_and_loaded(self, case, kind, tmp_path):
        network, operator, x = self.make(case, kind)
        network.to(memory_format=torch.channels_last)  # as `load` lays weights in memory, so that all bits agree
        y = operator(x)
        expected, recipe = network(y, operator), describe(network)
        again = build(recipe, UnrolledNetwork, *PARTS)
        again.load_state_dict(network.state_dict())
        again.to(memory_format=torch.channels_last)
        unrolled.save(tmp_path / "w.safetensors", network, operator)
        loaded, _ = unrolled.load(tmp_path / "w.safetensors")
        for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), again, loaded):
            assert torch.equal(other(y, operator), expected)
            assert describe(other) == recipe

    @pytest.mark.parametrize("start", [AdjointStart(), ConjugateGradientStart(2, 0.1)], ids=["adjoint", "gradients"])
    def test_begins_where_it_is_told_and_weights_remember_it(self, case, start, tmp_path):
        network, operator, x = self.make(case, start=start)
        network.to(memory_format=torch.channels_last)
        y = operator(x)
        torch.testing.assert_close(network.iterates(y, operator)[0], start(y, operator))
        unrolled.save(tmp_path / "w.safetensors", network, operator)
        again, _ = unrolled.load(tmp_path / "w.safetensors")
        assert describe(again.start) == describe(start)
        assert torch.equal(again(y, operator), network(y, operator))

    def test_fused_it_gives_the_same_image(self, case, kind):
        network, operator, x = self.make(case, kind)
        y = operator(x)
        fused = network.fuse()
        torch.testing.assert_close(fused(y, operator), network(y, operator))
        assert torch.isfinite(fused.loss(x, y, operator))
        with pytest.raises(ValueError, match="fused network is for use only"):
            describe(fused)


def measured(kind: str) -> tuple[LinearOperator, Tensor]:
    """An operator, and a batch of images for it."""
    if kind == "real":
        return BlockCompressedSensing(ratio=0.25, block=11), pictures(22, 33)
    return MultiCoilFourier(Coils(3), RadialMask(0.3), 16, 14), pictures(16, 14, complex_images=True)


def pictures(height: int, width: int, complex_images: bool = False) -> Tensor:
    """Three images, (3, 1, height, width)."""
    images = [picture(height, width, seed) for seed in range(3)]
    return torch.stack([with_fixed_phase(x, seed) if complex_images else x for seed, x in enumerate(images)])


def double(x: Tensor) -> Tensor:
    """In double precision, real or complex."""
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


# ---- several processes


def part_of_the_gradients(folder, laws: list[type[NetworkLaws]]) -> None:
    """What each process gets for its part of a batch, of the first case of every network; saved by its rank."""
    found = []
    with distributed.joined(torch.device("cpu")):
        rank = distributed.rank()
        for law in laws:
            task, x = loss_of_images(law, noise=0.05 if rank == 0 else 0.5)  # all take over the weights of the first
            with distributed.shared_loss(task, broadcast_buffers=False) as loss:
                loss(x[rank::2], 0).backward()
            found.append([parameter.grad for parameter in task.model.parameters()])
    torch.save(found, folder / f"{rank}.pt")


def loss_of_images(law: type[NetworkLaws], noise: float = 0.05):
    """The loss of the first case of a network as a task, in double precision, and four images."""
    network, operator, x = law().make(next(iter(law.cases)), noise=noise)
    x = torch.cat([x, x[:1].flip(-1)]).double()
    model = Reconstructor(network.double(), operator.double())
    return SimpleNamespace(model=model, loss=lambda model, x, step: loss(model, x)), x


def loss(model: Reconstructor, x: Tensor) -> Tensor:
    return model.network.loss(x, model.measure(x), model.operator)
