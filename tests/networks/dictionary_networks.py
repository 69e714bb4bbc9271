"""What networks of sparse codes have beside the laws of every network, as a test case to inherit."""

import math
from typing import ClassVar

import pytest
import torch
from torch import nn

from tests.networks.laws import NetworkLaws, pictures
from unrolled.networks import DictionaryNetwork
from unrolled.operators import Dense, Identity
from unrolled.training import TrainingOptions
from unrolled.training.fitting import fit
from unrolled.weights import load, save
from unrolled.weights.card import record
from unrolled.weights.transfer import take


def dictionary(rows=12, columns=20, complex_numbers=False, seed=0):
    """A Gaussian dictionary whose atoms have the norm 1, (rows, columns)."""
    kind = torch.complex64 if complex_numbers else torch.float32
    atoms = torch.randn(rows, columns, dtype=kind, generator=torch.Generator().manual_seed(seed))
    return atoms / torch.linalg.vector_norm(atoms, dim=0)


def sparse_codes(number, height, width, seed=0, share=0.1):
    """Gaussian codes of which each entry is none of 0 with this probability, (number, 1, height, width)."""
    random = torch.Generator().manual_seed(seed)
    codes = torch.randn(number, 1, height, width, generator=random)
    return codes * (torch.rand(codes.shape, generator=random) < share)


def decibels(found, z):
    """10 log₁₀ of the mean squared error over the mean square."""
    return 10 * math.log10(float((found - z).abs().square().sum() / z.abs().square().sum()))


def ista(matrix, y, threshold, iterations):
    """Soft thresholding of gradient steps from 0, in double precision; y and codes are vectors, (number, size)."""
    length = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    z = torch.zeros(len(y), matrix.shape[1], dtype=matrix.dtype)
    for _ in range(iterations):
        v = z - (z @ matrix.mT - y) @ matrix.conj() / length
        z = torch.sgn(v) * (v.abs() - threshold).clamp(min=0)
    return z


class Learned(Dense):
    """A dictionary that is learned."""

    def __init__(self, matrix, height, width):
        super().__init__(matrix, height, width)
        del self._buffers["matrix"]
        self.matrix = nn.Parameter(matrix)


class DictionaryLaws(NetworkLaws):
    """Their images are codes 4×5 of a dictionary of 12 atoms' entries and 20 atoms; they work for that one alone."""

    one_operator = "made for a dictionary of 12 rows and codes 4×5, and .* is no dictionary, .* as Dense does"
    no_tiles = r"tile: A?LISTAPhase looks at the image as a whole \(its reach is None\), so it has no tiles"
    network_class: ClassVar[type[DictionaryNetwork]]

    @staticmethod
    def operator(complex_images=False):
        matrix = dictionary(complex_numbers=complex_images)
        return Dense(matrix / torch.linalg.matrix_norm(matrix, 2), 4, 5)

    def measured(self, kind):
        return self.operator(kind == "complex"), pictures(4, 5, kind == "complex")

    def tiny(self, kind):
        operator, x = self.measured(kind)
        return operator, x[:1]

    def whole(self, kind):
        return self.measured(kind)

    def learned_operator(self):
        return Learned(self.operator().matrix, 4, 5)

    @pytest.mark.parametrize("kind", ["real", "complex"])
    def test_it_is_made_of_a_dictionary_in_any_units(self, kind):
        network_class, matrix = self.network_class, dictionary(complex_numbers=kind == "complex").to(torch.complex128)
        matrix = matrix if kind == "complex" else matrix.real
        z = pictures(4, 5, kind == "complex")
        one, other = Dense(matrix / 2, 4, 5), Dense(300 * matrix, 4, 5)
        expected = network_class.of(one, phases=3)(one(z), one)
        torch.testing.assert_close(network_class.of(other, phases=3)(other(z), other), expected)
        scaled = 150.0 * one
        torch.testing.assert_close(network_class.of(scaled, phases=3)(scaled(z), scaled), expected)

    def test_channels_are_coded_alike(self, case, kind):
        network, operator, z = self.make(case, kind)
        y = operator(z)
        torch.testing.assert_close(network(y.transpose(0, 1), operator).transpose(0, 1), network(y, operator))

    def test_dictionaries_of_other_sizes_are_refused_with_both(self):
        network, name = self.network_class(12, 4, 5, phases=1), self.network_class.__name__
        for rows, height, width in ((11, 4, 5), (12, 5, 4), (12, 3, 3)):
            other = Dense(torch.randn(rows, height * width), height, width)
            message = f"{name}: made for .* 12 rows and codes 4×5, and Dense has {rows} rows and codes {height}×{width}"
            with pytest.raises(ValueError, match=message):
                network(torch.rand(1, 1, rows), other)
            with pytest.raises(ValueError, match=message):
                network.fit_operator(other)
        with pytest.raises(ValueError, match=f"{name}: Identity is no dictionary"):
            self.network_class.of(Identity())

    def test_another_dictionary_of_its_size_is_refused(self, tmp_path):
        matrix = dictionary()
        own, other, path = Dense(matrix, 4, 5), Dense(dictionary(seed=1), 4, 5), tmp_path / "w.safetensors"
        network = self.network_class.of(own, phases=2)
        y = own(pictures(4, 5))
        save(path, network, own)
        loaded, operator = load(path)
        refused = f"{self.network_class.__name__}: its weights are made for another dictionary than that of the Dense"
        for one in (network, loaded):
            one(y, operator)
            one.double()(300 * y.double(), Dense(300 * matrix, 4, 5).double())  # in other units and precision
            one.float()
            for wrong in (other, Dense(matrix.flip(1), 4, 5), -1.0 * own):
                with pytest.raises(ValueError, match="another dictionary than that of the"):
                    one(y, wrong)
            with pytest.raises(ValueError, match=refused):
                one.fit_operator(other)
        before = network.state_dict()
        with pytest.raises(ValueError, match=r"w\.safetensors is made for another dictionary than that of the Dense"):
            take(path, network=self.network_class(12, 4, 5, phases=2), operator=other)
        take(path, network=network, operator=own)
        assert all(map(torch.equal, before.values(), network.state_dict().values()))
        record(path, {"dictionary": [1.0, "two"]})
        with pytest.raises(ValueError, match=r"does not tell its dictionary by 16 numbers, got \[1.0, 'two'\]"):
            load(path)

    def test_without_values_of_a_dictionary_it_says_so(self):
        operator = self.operator()
        network, name = self.network_class(12, 4, 5, phases=2), self.network_class.__name__
        y = operator(pictures(4, 5))
        for use in (network, network.iterates, network.first_image):
            with pytest.raises(ValueError, match=rf"{name}: its weights have no values yet; make it by {name}\.of"):
                use(y, operator)
        network.fit_operator(operator)
        expected = self.network_class.of(operator, phases=2)
        assert torch.equal(network(y, operator), expected(y, operator))
        with torch.no_grad():
            next(network.parameters()).add_(0.1)
        changed = network(y, operator)
        network.fit_operator(operator)  # and what has values keeps them
        assert torch.equal(network(y, operator), changed)

    def test_weights_that_are_read_with_what_is_no_dictionary_are_refused_when_used(self, tmp_path):
        path, name = tmp_path / "w.safetensors", self.network_class.__name__
        network = self.network_class.of(Dense(dictionary(), 4, 5), phases=2)
        save(path, network, Identity())
        record(path, {"dictionary": list(network.fingerprint)})
        loaded, operator = load(path)
        with pytest.raises(ValueError, match=f"{name}: made for a dictionary of .*, and Identity is no dictionary"):
            loaded(pictures(4, 5), operator)

    def test_training_gives_it_the_values_of_the_dictionary(self, tmp_path):
        operator, network = self.operator(), self.network_class(12, 4, 5, phases=2)
        steps = TrainingOptions(steps=2, batch=2, warmup=1, validations=1, average=0)
        images = list(pictures(8, 10))
        fit(network, operator, images, steps, validation=images[:1], folder=tmp_path, progress=False)
        trained, fresh = network.state_dict(), self.network_class.of(operator, phases=2).state_dict()
        for key, value in trained.items():
            assert (value - fresh[key]).abs().max() < 0.1, key

    @pytest.mark.parametrize(
        ("key", "value"),
        [("rows", 0), ("height", 2.5), ("width", 10_001), ("phases", 0), ("trusted", -0.1), ("most_trusted", 1.5)],
    )
    def test_bad_arguments_are_refused_by_name(self, key, value):
        with pytest.raises(ValueError, match=f"{self.network_class.__name__}: {key} must be"):
            self.network_class(**{"rows": 3, "height": 2, "width": 3, key: value})


def trained_error(network, operator, z, steps=150, rate=0.01):
    """The error in decibels, by new codes, of a network that is trained by others."""
    optimizer = torch.optim.Adam(network.parameters(), rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        codes = sparse_codes(128, *z.shape[2:], seed=1 + step)
        optimizer.zero_grad()
        network.loss(codes, operator(codes), operator).backward()
        optimizer.step()
        falling.step()
    with torch.no_grad():
        return decibels(network(operator(z), operator), z)


def best_of_ista(operator, z, iterations):
    """The least error that ISTA has with any threshold."""
    matrix, codes = operator.matrix.double(), z.flatten(1).double()
    y = codes @ matrix.mT
    return min(
        decibels(ista(matrix, y, threshold, iterations), codes) for threshold in torch.logspace(-3, -0.5, 12).tolist()
    )
