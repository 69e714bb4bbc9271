"""Tomography by parallel rays, against scikit-image and closed forms."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from skimage.data import shepp_logan_phantom
from skimage.transform import iradon, radon, resize
from torch import Tensor

from tests.operators.laws import OperatorLaws
from tests.pairs import FULL
from unrolled.operators import LinearOperator, Radon, ray_matrix
from unrolled.operators import rays as rays_module
from unrolled.system.recipes import build, describe


def parallel(height: int = 8, width: int = 8, angles=5, **options):
    return lambda: (Radon(angles, height, width, **options).double(), (2, 1, height, width))


@pytest.mark.filterwarnings("ignore:Radon. 5 detectors do not see")
class TestRadon(OperatorLaws):
    operator_class = Radon
    compiled = ("even", "folded, Joseph")
    cases = {
        "even": parallel(),
        "odd, two channels": lambda: (Radon(5, 7, 7).double(), (2, 2, 7, 7)),
        "rectangle": parallel(6, 8),
        "disc": parallel(circle=True),
        "one angle": parallel(angles=[-90.0], circle=True),
        "chosen angles, few detectors": parallel(angles=torch.tensor([0.0, 30, 31, 90, 360]), detectors=5),
        "wide detectors, units": parallel(spacing=0.7, pixel_size=0.5, window="hann"),
        "many narrow detectors": parallel(detectors=28, spacing=0.5),
        "shifted, Joseph": parallel(angles=4, first_angle=10.0, axis=(3.5, 3.0), detector_offset=0.3, sums="joseph"),
        "folded, Joseph": parallel(angles=6, circle=True, pixel_size=0.5, sums="joseph"),
    }


def phantom(side: int) -> np.ndarray:
    return resize(shepp_logan_phantom(), (side, side), anti_aliasing=True)


def smooth(height: int, width: int) -> np.ndarray:
    """Two Gaussian hills, of which nothing is left at the rim."""
    rows, columns = np.mgrid[:height, :width]
    y, x = rows / height - 0.5, columns / width - 0.5
    return np.exp(-80 * ((x - 0.1) ** 2 + y**2)) - 0.5 * np.exp(-100 * (x**2 + (y - 0.12) ** 2))


def disc(side: int, radius: float, right: float = 0.0, up: float = 0.0, fine: int = 8) -> Tensor:
    """A disc of ones around a point given from the axis, with grey pixels at its edge, (1, 1, side, side)."""
    places = (torch.arange(side * fine, dtype=torch.float64) + 0.5) / fine - 0.5 - side // 2
    inside = (places - right).square() + (places.unsqueeze(1) + up).square()
    return torch.nn.functional.avg_pool2d((inside <= radius**2).double()[None, None], fine)


def ellipse(height: int, width: int, value: float, pixel: float, fine: int = 8):
    """A turned ellipse in an image, and the integrals along lines (θ, s) from the middle of the image.

    Kak and Slaney, 1988, eq. 3.4 and 3.5.
    """
    a, b, turn, right, up = 16.0, 9.0, 0.6, 4.0, -2.5

    def places(size):
        return ((np.arange(size * fine) + 0.5) / fine - size / 2) * pixel

    x, y = places(width) - right, -places(height)[:, None] - up
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    inside = torch.from_numpy((along / a) ** 2 + (across / b) ** 2 <= 1)[None, None].double()

    def chords(theta, s):
        s = s - right * np.cos(theta) - up * np.sin(theta)
        squared = (a * np.cos(theta - turn)) ** 2 + (b * np.sin(theta - turn)) ** 2
        return value * 2 * a * b / squared * np.sqrt(np.clip(squared - s**2, 0, None))

    return value * torch.nn.functional.avg_pool2d(inside, fine), chords


def images(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)[None, None]


def sinogram(y: Tensor) -> np.ndarray:
    """As scikit-image has it, (detector, angle)."""
    return y[0, 0].T.numpy()


def relative(found, expected) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("side", [64, 63])
@pytest.mark.parametrize("circle", [True, False])
def test_sinograms_are_those_of_scikit_image(side, circle):
    angles = np.arange(-20.0, 380, 37) % 360
    operator = Radon(angles.tolist(), side, side, circle=circle).double()
    for image in (phantom(side), smooth(side, side)):
        if circle:  # a little less than the disc: there the last line of pixels is summed here only
            rows, columns = np.indices(image.shape) - side // 2
            image = np.where(rows**2 + columns**2 <= (side // 2 - 2) ** 2, image, 0)
        # Angles in float32 are exact here, so this holds to rounding.
        assert relative(sinogram(operator(images(image))), radon(image, angles, circle=circle)) < 1e-13


def test_sinograms_of_rectangles_are_those_of_scikit_image():
    image, angles = np.random.RandomState(0).rand(20, 31), np.arange(0.0, 180, 15)
    expected = radon(image, angles, circle=False)
    operator = Radon(12, 20, 31, detectors=len(expected)).double()
    assert relative(sinogram(operator(images(image))), expected) < 1e-13


@pytest.mark.parametrize("sums", ["bilinear", "joseph"])
@pytest.mark.parametrize(("right", "up"), [(0, 0), (9, 0), (0, -7.5), (-6, 8)])
def test_the_sinogram_of_a_disc_is_its_chords(right, up, sums):
    radius = 14.0
    operator = Radon(24, 64, 64, pixel_size=0.5, sums=sums).double()
    found = operator(disc(64, radius, right, up))[0, 0]
    angle = torch.deg2rad(operator.angles)[:, None]
    distance = torch.arange(operator.detectors) - operator.detectors // 2 - right * angle.cos() - up * angle.sin()
    expected = 0.5 * 2 * (radius**2 - distance.square()).clamp(min=0).sqrt()
    # Pixels have a size, and at the edge chords grow like a root. An axis half a pixel off would show as 10 %.
    inner = distance.abs() < radius - 2
    torch.testing.assert_close(found[inner], expected[inner], rtol=0.03, atol=0)
    assert (found - expected).norm() < 0.04 * expected.norm()
    assert found[distance.abs() > radius + 2].abs().max() == 0
    # The mass is the area, at every angle.
    torch.testing.assert_close(
        found.sum(1) * 0.5, torch.full((24,), math.pi * (radius / 2) ** 2), rtol=5e-3, atol=0, check_dtype=False
    )


@pytest.mark.parametrize("sums", ["bilinear", "joseph"])
@pytest.mark.parametrize("axis", [None, (31.5, 32.25)])
def test_the_sinogram_of_an_ellipse_in_millimetres(axis, sums):
    """Attenuation in 1/mm, as a scanner sees it that turns the other way, its axis and its detector out of place."""
    pixel, spacing, offset, attenuation = 0.8, 0.6, 1.7, 0.02
    options = {"detectors": 131, "spacing": spacing, "first_angle": 33.0, "span": -170.0}
    operator = Radon(17, 64, 66, pixel_size=pixel, detector_offset=offset, axis=axis, sums=sums, **options).double()
    row, column = axis or (32, 33)
    image, chords = ellipse(64, 66, attenuation, pixel)
    theta = np.deg2rad(33 - 170 / 17 * np.arange(17))[:, None]
    place = spacing * (np.arange(131) - 65) + offset  # from where the axis falls
    # From the middle of the image, of which the ellipse knows.
    axis_right, axis_up = pixel * (column - 32.5), pixel * (31.5 - row)
    expected = torch.from_numpy(chords(theta, place + axis_right * np.cos(theta) + axis_up * np.sin(theta)))
    found = operator(image)[0, 0]
    assert (found - expected).norm() < 0.025 * expected.norm()  # an axis half a pixel off would show as 9 %
    mass = torch.full((17,), math.pi * 16 * 9 * attenuation, dtype=torch.float64)
    torch.testing.assert_close(found.sum(1) * spacing, mass, rtol=5e-3, atol=0)
    whole = Radon(
        180, 64, 66, pixel_size=pixel, detector_offset=offset, axis=axis, sums=sums, **options | {"span": -180.0}
    )
    back = whole.double().estimate(whole(image))
    inside = torch.nn.functional.avg_pool2d(image, 7, 1, 3) > 0.999 * attenuation
    torch.testing.assert_close(back[inside].mean().item(), attenuation, rtol=1e-3, atol=0)
    assert (back[inside] - attenuation).abs().max() < 0.03 * attenuation


def test_wider_detectors_take_every_other_ray():
    x = images(phantom(32))
    fine = Radon(10, 32, 32, detectors=46).double()
    coarse = Radon(10, 32, 32, spacing=4.0, pixel_size=2.0).double()  # in the unit of pixels
    assert coarse.detectors == 23
    # Both have the axis on a detector, at 23 and at 11.
    torch.testing.assert_close(coarse(x), 2 * fine(x)[..., 1::2])


@pytest.mark.parametrize("side", [64, 63])
@pytest.mark.parametrize(
    ("window", "tolerance"),
    # Its Hamming and Hann windows are not symmetric, off by half a sample.
    [("ramp", 1e-6), ("shepp-logan", 1e-6), ("cosine", 1e-6), ("hamming", 2e-3), ("hann", 2e-3)],
)
def test_filtered_back_projection_is_that_of_scikit_image(side, window, tolerance):
    angles = np.arange(0.0, 180, 3)
    operator = Radon(60, side, side, circle=True, window=window).double()
    y = operator(images(phantom(side)))
    expected = iradon(sinogram(y), angles, filter_name=window)
    assert relative(operator.estimate(y)[0, 0].numpy(), expected) < tolerance


@pytest.mark.parametrize("options", [{}, {"circle": True}, {"spacing": 1.0, "pixel_size": 2.0}, {"spacing": 0.8}])
def test_filtered_back_projection_of_many_angles_is_the_image(options):
    image = images(smooth(48, 52))
    operator = Radon(160, 48, 52, **options).double()
    found = operator.estimate(operator(image))
    # Interpolation blurs; it does so half as far on an image that is twice as fine.
    assert (found - image).norm() < 0.025 * image.norm()
    torch.testing.assert_close(found.mean(), image.mean(), rtol=2e-3, atol=0)


def test_filtered_back_projection_converges():
    image = images(smooth(96, 96))
    operator = Radon(160, 96, 96).double()
    assert (operator.estimate(operator(image)) - image).norm() < 0.006 * image.norm()


def test_filtered_back_projection_sees_how_angles_are_spread():
    image = images(smooth(48, 48))

    def error(angles):
        operator = Radon(angles, 48, 48).double()
        return float((operator.estimate(operator(image)) - image).norm() / image.norm())

    dense = torch.cat((torch.arange(0, 60, 0.5), torch.arange(60, 180, 1.5)))
    assert error(dense) < 0.025
    assert error(torch.linspace(0, 360, 361)) < 0.025  # the line at 0 is there three times
    assert error(torch.arange(-180, 0, 1.0).flip(0)) < 0.025
    # With few angles it has streaks, and a wedge that is missing is missing, but nothing blows up.
    assert 0.02 < error(12) < 0.5
    assert 0.1 < error(list(range(120))) < 0.5


def test_filtered_back_projection_is_linear_and_learns():
    operator = Radon(9, 12, 12).double()
    y = torch.randn(1, 1, 9, operator.detectors, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(operator.estimate, y, fast_mode=not FULL)
    compiled = torch.compile(operator.estimate, fullgraph=True, backend="aot_eager" if FULL else "eager")
    torch.testing.assert_close(compiled(y), operator.estimate(y))


def test_the_adjoint_compiles_to_one_graph():
    operator = Radon(9, 12, 12).double()
    y = torch.randn(2, 1, 9, operator.detectors, dtype=torch.float64)
    compiled = torch.compile(operator.adjoint, fullgraph=True, backend="aot_eager" if FULL else "eager")
    torch.testing.assert_close(compiled(y), operator.adjoint(y))


def test_angles_in_parts_give_the_same(monkeypatch):
    operator = Radon(7, 12, 12).double()
    x = torch.randn(2, 2, 12, 12, dtype=torch.float64)
    y = operator(x)
    adjoint, estimate = operator.adjoint(y), operator.estimate(y)
    monkeypatch.setattr(rays_module, "AT_ONCE", 5000)  # three angles, and 8
    torch.testing.assert_close(operator(x), y)
    torch.testing.assert_close(operator.adjoint(y), adjoint)
    torch.testing.assert_close(operator.estimate(y), estimate)


SCANS = {
    "even": {"angles": 12},
    "odd, mirrored angles": {"angles": [10.0 * k for k in range(-8, 9)]},
    "all around": {"angles": 24, "span": 360.0},
    "lines twice": {"angles": [0.0, 0, 180, 90, 45, 45, 360, -45]},
    "no angle like another": {"angles": [111.25 * k % 180 for k in range(9)]},
    "detectors beside the axis": {"angles": 12, "detector_offset": 0.3},
    "axis at a corner": {"angles": 12, "axis": (5.5, 5.5), "spacing": 0.7},
    "axis near the rim": {"angles": 12, "axis": (2, 10)},
    "axis anywhere": {"angles": 12, "axis": (5.3, 5.5)},
    "rectangle, few detectors": {"angles": 12, "width": 9, "detectors": 6},
    "disc": {"angles": 12, "circle": True},
}


@pytest.mark.filterwarnings("ignore:Radon. 6 detectors do not see")
@pytest.mark.parametrize("scan", SCANS)
def test_a_matrix_is_the_same_sums(scan, monkeypatch):
    assert_a_matrix_is_the_same_sums(
        Radon(**{"height": 12, "width": 12, "sums": "joseph"} | SCANS[scan]).double(), monkeypatch
    )


def assert_a_matrix_is_the_same_sums(operator, monkeypatch):
    """What an operator does by its matrix it does without, if no matrix may be so large."""
    x = torch.randn(2, 2, operator.height, operator.width, dtype=torch.float64)
    y = operator(x)
    adjoint, estimate = operator.adjoint(y), operator.estimate(y)
    monkeypatch.setattr(ray_matrix, "LARGEST", 1000)
    operator = copy.deepcopy(operator)
    torch.testing.assert_close(operator(x), y, rtol=0, atol=1e-12)
    torch.testing.assert_close(operator.adjoint(y), adjoint, rtol=0, atol=1e-11)
    torch.testing.assert_close(operator.estimate(y), estimate, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # PyTorch's own call
def test_filtered_back_projection_by_a_matrix_has_derivatives():
    operator = Radon(4, 6, 6, sums="joseph").double()
    y = torch.randn(2, 1, 4, operator.detectors, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(operator.estimate, y, fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda y: operator.estimate(y).square(), y, fast_mode=True)
    torch.testing.assert_close(torch.func.vmap(operator.estimate)(torch.stack((y, 2 * y)))[1], 2 * operator.estimate(y))


def test_a_matrix_has_an_eighth_of_the_rays():
    for angles, share in ((64, 1 / 8), ([111.25 * k % 180 for k in range(64)], 1 / 2)):
        operator = Radon(angles, 16, 16, sums="joseph")
        operator(torch.zeros(1, 1, 16, 16))
        kept = operator.matrix_of_rays(torch.zeros(1))
        assert (len(kept.matrix.begins) - 1) / (64 * operator.detectors) == pytest.approx(share, rel=0.15)


def test_a_matrix_follows_the_angles():
    operator, other = (Radon(torch.tensor(angles), 12, 12, sums="joseph") for angles in ([0.0, 10, 50], [3.0, 90, 7]))
    x = torch.rand(1, 1, 12, 12)
    first, norm = operator(x), operator.norm()
    operator.load_state_dict(other.state_dict())
    assert torch.equal(operator(x), other(x))
    assert torch.equal(operator.norm(), other.norm())
    assert not torch.equal(operator(x), first)
    assert not torch.equal(operator.norm(), norm)
    assert operator.double()(x).dtype is torch.float64


def test_the_norm_is_found_once(monkeypatch):
    operator = Radon(20, 16, 16, axis=(7.5, 7.5), span=170.0)
    norm = operator.norm()
    monkeypatch.setattr(Radon, "gram", None)
    assert operator.norm() is norm
    normalized = operator.normalized()
    assert normalized.norm() == pytest.approx(1)
    again = build(json.loads(json.dumps(describe(normalized))), LinearOperator, LinearOperator)
    x = torch.rand(1, 1, 16, 16)
    assert torch.equal(again(x), normalized(x))
    assert again.factor == 1 / float(norm)


def test_angles_start_and_go_on():
    assert Radon(4, 12, 12, first_angle=10.0).angles.tolist() == [10, 55, 100, 145]
    assert Radon(3, 12, 12, first_angle=5.0, span=-90.0).angles.tolist() == [5, -25, -55]
    assert Radon([0.0, 90], 12, 12, first_angle=-10.0).angles.tolist() == [-10, 80]


def test_angles_that_were_given_travel_in_the_state_dict():
    angles = torch.tensor([0.0, 10, 50])
    operator = Radon(angles, 12, 12)
    assert "angles" not in operator.description()
    other = Radon(torch.zeros(3), 12, 12)
    other.load_state_dict(operator.state_dict())
    x = torch.rand(1, 1, 12, 12)
    assert torch.equal(other(x), operator(x))
    assert torch.equal(other.estimate(operator(x)), operator.estimate(operator(x)))
    assert Radon(3, 12, 12).state_dict() == Radon([0.0], 12, 12).state_dict() == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"angles": 0}, "angles must be >= 1, got 0"),
        ({"angles": True}, "angles must be a whole number, got True"),
        ({"angles": []}, "angles must be a number of angles or a list"),
        ({"angles": torch.zeros(2, 2)}, "angles must be a number of angles or a list"),
        ({"angles": [0.0, math.nan]}, r"angles must be in \[-360, 360\] degrees, got nan"),
        ({"angles": [0.0, 361.0]}, r"angles must be in \[-360, 360\] degrees, got 361"),
        ({"height": 0}, "height and width must be >= 1, got 0 and 12"),
        ({"detectors": 0}, "detectors must be >= 1, got 0"),
        ({"spacing": 0.0}, "spacing must be a finite number > 0, got 0.0"),
        ({"pixel_size": math.inf}, "pixel_size must be a finite number > 0, got inf"),
        ({"window": "hat"}, "window must be one of ramp, shepp-logan, .* got 'hat'"),
        ({"first_angle": math.nan}, r"first_angle must be in \[-360, 360\] degrees, got nan"),
        ({"span": 0.0}, r"span must be in \[-360, 360\] degrees and not 0, got 0.0"),
        ({"span": 720.0}, r"span must be in \[-360, 360\] degrees and not 0, got 720.0"),
        ({"span": 90.0, "angles": [1.0]}, "span is for a number of angles"),
        ({"detector_offset": math.inf}, "detector_offset must be a finite number, got inf"),
        (
            {"detector_offset": -1e9},
            r"detector_offset must put .*, up to 8.485 pixels from the axis, got -1e\+09 there",
        ),
        ({"axis": (6, 12)}, r"axis must be \(row, column\) in the image, from -0.5 to 11.5 and 11.5, got \(6, 12\)"),
        ({"axis": "66"}, "axis must be"),
        ({"axis": (6, math.nan)}, "axis must be"),
        ({"axis": (6,)}, "axis must be"),
        ({"sums": "exact"}, "sums must be bilinear or joseph, got 'exact'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=f"Radon: {message}"):
        Radon(**{"angles": 4, "height": 12, "width": 12, **options})


def test_images_and_sinograms_that_do_not_fit_are_refused():
    operator: LinearOperator = Radon(4, 12, 10)
    for x in (torch.zeros(1, 1, 10, 12), torch.zeros(1, 12, 10), torch.zeros(1, 1, 12, 10, dtype=torch.complex64)):
        with pytest.raises(ValueError, match=r"Radon: images must be real, \(batch, channel, 12, 10\), got"):
            operator(x)
    for shape in ((1, 1, 16, 4), (1, 4, 16), (0, 1, 4, 16)):
        for back in (operator.adjoint, operator.estimate):
            with pytest.raises(ValueError, match=r"Radon: sinograms must be real, .* 4 angles and 16 detectors, got"):
                back(torch.zeros(shape))


def test_too_few_detectors_are_told():
    with pytest.warns(UserWarning, match="Radon: 14 detectors do not see the whole image, 17 would") as caught:
        Radon(4, 12, 12, detectors=14)
    assert caught[0].filename == __file__
    Radon(4, 12, 12, detectors=12, circle=True)  # and without a warning


def test_angles_that_seem_to_be_radians_are_told():
    with pytest.warns(UserWarning, match=r"angles are degrees, and lie between 0 and 2.*torch\.rad2deg"):
        Radon(np.linspace(0, np.pi, 20, endpoint=False), 8, 8)
    Radon(np.linspace(0, 2, 20), 8, 8)
