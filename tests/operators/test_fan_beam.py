"""Tomography by rays from a point, against closed forms and the parallel beam."""

import math

import numpy as np
import pytest
import torch

from tests.operators.laws import OperatorLaws
from tests.operators.test_radon import assert_a_matrix_is_the_same_sums, disc, ellipse, images, phantom, smooth
from tests.pairs import FULL
from unrolled.operators import FanBeam, Radon
from unrolled.operators.scan_angles import short_scan_weights


def fan(height: int = 8, width: int = 8, angles=5, source_distance: float = 14.0, **options):
    return lambda: (FanBeam(angles, height, width, source_distance, **options).double(), (2, 1, height, width))


@pytest.mark.filterwarnings("ignore:FanBeam. 5 detectors do not see")
class TestFanBeam(OperatorLaws):
    operator_class = FanBeam
    compiled = ("flat, folded, Joseph", "curved, chosen angles, few detectors")
    cases = {
        "flat": fan(),
        "curved": fan(curved=True),
        "rectangle, flat, disc": fan(6, 7, circle=True),
        "curved, chosen angles, few detectors": fan(
            angles=torch.tensor([0.0, 30, 31, 200]), curved=True, detectors=5, spacing=2.0
        ),
        "flat, far detector, units": fan(detector_distance=7.0, spacing=1.1, pixel_size=0.5, window="cosine"),
        "curved, shifted, Joseph": fan(7, 8, curved=True, axis=(3.0, 3.2), detector_offset=0.3, sums="joseph"),
        "flat, folded, Joseph": fan(angles=8, detector_distance=7.0, sums="joseph"),
    }


def geometry(operator: FanBeam, offset: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Source and unit vector of every ray, (angle, detector, 2), x to the right and y up, from where things stand.

    In pixels, for a detector at 50 from the axis of a source at 100.
    """
    beta = torch.deg2rad(operator.angles)[:, None]
    to_source = torch.stack((-beta.sin(), beta.cos()), -1)
    along = torch.stack((beta.cos(), beta.sin()), -1)
    place = (torch.arange(operator.detectors) - operator.detectors // 2) * 2.0 + offset
    source = 100 * to_source
    if operator.curved:
        turn = (place / 150)[None, :, None]
        detector = source + 150 * (turn.sin() * along - turn.cos() * to_source)
    else:
        detector = -50 * to_source + place[None, :, None] * along
    ray = detector - source
    return source.expand_as(ray), ray / ray.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("sums", ["bilinear", "joseph"])
@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize(
    ("right", "up", "offset", "axis"), [(0, 0, 0, None), (-6, 9, 0, None), (4, -7, 1.3, (30.5, 31.75))]
)
def test_the_sinogram_of_a_disc_is_its_chords(right, up, offset, axis, curved, sums):
    radius = 14.0
    options = {"curved": curved, "detector_offset": offset, "axis": axis, "sums": sums}
    operator = FanBeam(24, 64, 64, 100.0, 50.0, spacing=2.0, **options).double()
    row, column = axis or (32, 32)
    found = operator(disc(64, radius, right + column - 32, up - row + 32))[0, 0]
    source, ray = geometry(operator, offset)
    to_center = torch.tensor([right, up], dtype=torch.float64) - source
    distance = (to_center[..., 0] * ray[..., 1] - to_center[..., 1] * ray[..., 0]).abs()
    expected = 2 * (radius**2 - distance.square()).clamp(min=0).sqrt()
    inner = distance < radius - 2
    torch.testing.assert_close(found[inner], expected[inner], rtol=0.03, atol=0)
    assert (found - expected).norm() < 0.03 * expected.norm()
    assert found[distance > radius + 2].abs().max() == 0


@pytest.mark.parametrize("curved", [False, True])
def test_a_far_source_is_a_parallel_beam(curved):
    x = images(phantom(32))
    parallel = Radon([0.0, 40, 90, 211], 32, 32).double()
    differences = []
    for distance in (1e3, 1e5):
        far = FanBeam([0.0, 40, 90, 211], 32, 32, distance, curved=curved, detectors=parallel.detectors).double()
        differences.append(float((far(x) - parallel(x)).norm() / parallel(x).norm()))
    assert differences[0] < 0.02
    assert differences[1] < 2e-4
    far = FanBeam(360, 32, 32, 1e5, curved=curved).double()
    parallel = Radon(360, 32, 32).double()
    found, expected = far.estimate(far(x)), parallel.estimate(parallel(x))
    assert (found - expected).norm() < 2e-3 * expected.norm()


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"source_distance": 60.0},
        {"source_distance": 40.0, "circle": True},
        {"source_distance": 50.0, "detector_distance": 30.0, "spacing": 0.6, "pixel_size": 0.5},
    ],
)
def test_filtered_back_projection_of_many_angles_is_the_image(curved, options):
    image = images(smooth(48, 52))
    operator = FanBeam(240, 48, 52, curved=curved, **options).double()
    found = operator.estimate(operator(image))
    assert (found - image).norm() < 0.025 * image.norm()
    torch.testing.assert_close(found.mean(), image.mean(), rtol=3e-3, atol=0)


@pytest.mark.parametrize("curved", [False, True])
def test_filtered_back_projection_of_a_phantom(curved):
    image = images(phantom(64))
    operator = FanBeam(240, 64, 64, 100.0, curved=curved).double()
    found = operator.estimate(operator(image))
    assert (found - image).square().mean().sqrt() < 0.05
    # In absolute values: of the whole, and of the grey of the brain, where the phantom is flat.
    torch.testing.assert_close(found.mean(), image.mean(), rtol=2e-3, atol=0)
    torch.testing.assert_close(found[..., 44:50, 29:36].mean(), image[..., 44:50, 29:36].mean(), rtol=0.03, atol=0)


def test_a_part_of_a_turn_keeps_the_scale():
    image = images(smooth(48, 48))
    operator = FanBeam(list(range(0, 220, 2)), 48, 48, 100.0).double()
    found = operator.estimate(operator(image))
    assert (found - image).norm() < 0.4 * image.norm()
    assert abs(float((found * image).sum() / image.square().sum()) - 1) < 0.1


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize(("first_angle", "span"), [(77.0, -250.0), (0.0, 300.0)])
def test_every_line_of_a_short_scan_counts_once(first_angle, span, curved):
    """A line is seen from β at γ, and from β + 180° + 2γ at −γ, or only once."""
    operator = FanBeam(
        round(4 * abs(span)), 64, 64, 100.0, first_angle=first_angle, span=span, curved=curved, short_scan=True
    )
    fan, _ = operator.double().lines(torch.linspace(-45, 45, 91, dtype=torch.float64))
    weights = short_scan_weights(operator.angles, fan).numpy()
    beta, order = np.sort(operator.angles.numpy()), np.argsort(operator.angles.numpy())
    degrees = np.rad2deg(fan.numpy())
    for number, gamma in enumerate(degrees):
        total = weights[order, number].copy()
        for turn in (-180, 180):
            partner = beta + turn + 2 * gamma
            total += np.interp(partner, beta, weights[order, 90 - number], left=0, right=0)
        np.testing.assert_allclose(total, 1, atol=2e-3)


@pytest.mark.parametrize("curved", [False, True])
def test_values_come_back_from_a_short_scan_in_millimetres(curved):
    """Attenuation in 1/mm; a detector that is out of place, an axis beside the middle, angles in any order."""
    pixel, attenuation, axis = 0.8, 0.02, (31.5, 32.25)
    image, _ = ellipse(64, 66, attenuation, pixel)
    inside = torch.nn.functional.avg_pool2d(image, 7, 1, 3) > 0.999 * attenuation
    angles = 40 - 2 * torch.randperm(120, generator=torch.Generator().manual_seed(0))
    options = {"detector_distance": 60.0, "spacing": 1.1, "detector_offset": 0.4, "axis": axis, "pixel_size": pixel}
    operator = FanBeam(angles, 64, 66, 110.0, curved=curved, short_scan=True, **options)
    y = operator(image)
    found = operator.estimate(y)[inside]
    torch.testing.assert_close(found.mean().item(), attenuation, rtol=1e-3, atol=0)
    assert (found - attenuation).abs().max() < 0.03 * attenuation
    plain = FanBeam(angles, 64, 66, 110.0, curved=curved, **options)
    assert (plain.estimate(y)[inside] - attenuation).abs().max() > 0.05 * attenuation


def test_a_source_may_be_near_an_image_beside_the_axis():
    operator = FanBeam(4, 12, 12, 14.3, axis=(0, 6))  # the farthest pixel is at 12.5
    assert operator(torch.ones(1, 1, 12, 12)).isfinite().all()
    with pytest.raises(ValueError, match=r"source_distance must be finite and > 13\.94"):
        FanBeam(4, 12, 12, 13.9, axis=(0, 6))


def test_too_short_scans_are_told():
    with pytest.warns(UserWarning, match="angles cover 200°, and a short scan needs 212.9°, half a turn and the fan"):
        FanBeam(100, 12, 12, 30.0, span=200.0, short_scan=True)
    FanBeam(100, 12, 12, 30.0, span=240.0, short_scan=True)


@pytest.mark.parametrize(
    "options",
    [
        {"angles": 16},
        {"angles": [3.0, 77, 200, 201]},
        {"angles": 16, "detector_offset": 0.25},
        {"angles": 16, "axis": (5.2, 6)},
    ],
)
def test_a_matrix_is_the_same_sums(options, monkeypatch):
    operator = FanBeam(height=12, width=12, source_distance=30.0, sums="joseph", **options).double()
    assert_a_matrix_is_the_same_sums(operator, monkeypatch)


def test_filtered_back_projection_is_linear_and_learns():
    operator = FanBeam(9, 12, 12, 20.0, curved=True).double()
    y = torch.randn(1, 1, 9, operator.detectors, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(operator.estimate, y, fast_mode=not FULL)
    compiled = torch.compile(operator.estimate, fullgraph=True, backend="aot_eager" if FULL else "eager")
    torch.testing.assert_close(compiled(y), operator.estimate(y))


def test_angles_go_around_by_default():
    assert FanBeam(4, 12, 12, 20.0).angles.tolist() == [0, 90, 180, 270]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source_distance": 9.8}, "source_distance must be finite and > 9.899, or the source is inside the image"),
        ({"source_distance": -30.0}, "source_distance must be finite and > 9.899"),
        ({"source_distance": 7.0, "circle": True}, "source_distance must be finite and > 7.414, .* inside the disc"),
        ({"source_distance": 4.9, "pixel_size": 0.5}, "source_distance must be finite and > 4.95"),
        ({"source_distance": math.inf}, "source_distance must be finite"),
        ({"detector_distance": -1.0}, "detector_distance must be a finite number >= 0, got -1.0"),
        ({"spacing": math.nan}, "spacing must be a finite number > 0, got nan"),
        ({"detectors": 0}, "detectors must be >= 1, got 0"),
        ({"detector_offset": math.nan}, "detector_offset must be a finite number, got nan"),
        ({"curved": True, "detectors": 60, "detector_offset": 5.0}, "a curved detector must lie within 90° to both"),
        ({"curved": True, "detectors": 64}, "a curved detector must lie within 90° to both sides, got 64 detectors"),
        ({"angles": [math.inf]}, r"angles must be in \[-360, 360\] degrees, got inf"),
        ({"window": ""}, "window must be one of"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=f"FanBeam: {message}"):
        FanBeam(**{"angles": 4, "height": 12, "width": 12, "source_distance": 20.0, **options})


def test_images_and_sinograms_that_do_not_fit_are_refused():
    operator = FanBeam(4, 12, 12, 20.0)
    with pytest.raises(ValueError, match="FanBeam: images must be real"):
        operator(torch.zeros(1, 1, 12, 11))
    with pytest.raises(ValueError, match=r"FanBeam: sinograms must be real, .* 4 angles"):
        operator.adjoint(torch.zeros(1, 1, 5, operator.detectors))


def test_too_few_detectors_are_told():
    with pytest.warns(UserWarning, match="FanBeam: 14 detectors do not see the whole image, 19 would"):
        FanBeam(4, 12, 12, 20.0, detectors=14)
