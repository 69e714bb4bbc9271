from contextlib import nullcontext

import numpy as np
import pytest
import torch

from unrolled.system.scales import Range, as_scale, is_dark, range_of, refuse_dark

IMAGE = torch.tensor([[0.0, 0.25], [0.5, 1.0]])


@pytest.mark.parametrize(
    ("kind", "white"),
    [
        (torch.bool, 1),
        (torch.uint8, 255),
        (torch.uint16, 65535),
        (torch.float16, 1),
        (torch.float64, 1),
        (torch.complex64, 1),
    ],
)
def test_types_that_state_their_white(kind, white):
    image = (IMAGE * white).round() if not kind.is_floating_point and not kind.is_complex else IMAGE
    span = range_of("image", image.to(kind))
    assert (span.black, span.white, span.given) == (0, white, False)
    unit = span.to_unit(image.to(kind))
    assert unit.abs().max() == 1
    torch.testing.assert_close(span.from_unit(unit).abs().double(), image.to(kind).to(torch.complex128).abs())


@pytest.mark.parametrize("kind", [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint32, torch.uint64])
def test_other_whole_numbers_are_asked_for_their_white(kind):
    image = (100 * IMAGE).to(kind)
    with pytest.raises(ValueError, match=rf"image: is of {str(kind)[6:]}, whose white is not known; give scale"):
        range_of("image", image)
    torch.testing.assert_close(range_of("image", image, 200).to_unit(image), IMAGE / 2)


def test_every_rule_of_scale():
    hounsfield = torch.tensor([-1024, 0, 3071], dtype=torch.int16)
    span = range_of("ct", hounsfield, (-1024, 3071))
    torch.testing.assert_close(span.to_unit(hounsfield), torch.tensor([0, 1024 / 4095, 1]))
    torch.testing.assert_close(span.from_unit(span.to_unit(hounsfield)), hounsfield.float())
    assert range_of("ct", hounsfield, "hu") == Range(-1000, 3071, True) == range_of("ct", hounsfield, [-1000, 3071])
    assert as_scale("ct", "hu") == (-1000.0, 3071.0)
    values = torch.arange(1001.0)
    assert range_of("x", values, "max").white == 1000
    assert range_of("x", values, "75%").white == 750
    assert range_of("x", torch.polar(values, values), "max").white == pytest.approx(1000)
    assert range_of("x", torch.zeros(9), "max").white == 1
    assert range_of("x", torch.eye(40), "50%").white == 1  # few bright pixels on black
    for scale in (np.float32(4), np.array(4), torch.tensor(4), [0, 4], np.array([0.0, 4.0])):
        assert range_of("x", IMAGE, scale) == Range(0, 4, True)


@pytest.mark.parametrize(
    "scale",
    [
        0,
        -1,
        np.nan,
        np.inf,
        True,
        "white",
        "0%",
        "101%",
        "x%",
        (1, 1),
        (2, 1),
        (1, 2, 3),
        (0, np.inf),
        [],
        None.__class__,
    ],
)
def test_what_is_no_scale_is_refused(scale):
    with pytest.raises(ValueError, match="data: scale must be"):
        as_scale("data", scale)


def test_images_that_do_not_fit_are_refused():
    for image, scale, said in [
        (IMAGE * 255, None, r"values must be in \[0, 1\], got 0 to 255; give scale"),
        (IMAGE - 0.5, None, r"values must be in \[0, 1\], got -0.5"),
        (IMAGE * 1j * 3, None, r"must be in \[0, 1\], got 0 to 3"),
        (IMAGE * torch.nan, None, "must be finite"),
        (IMAGE / 0, "max", "must be finite"),
        (IMAGE[:0], None, "must not be empty"),
        (IMAGE * 4095, 255, "far outside of the scale from 0 to 255"),
        (IMAGE * 1j, (-1, 1), "black must be 0 for complex images"),
        (IMAGE * 1j, "hu", "black must be 0 for complex images"),
        (IMAGE, "hu", r"reaches from 0 to 1, as images in \[0, 1\] do, and not Hounsfield units"),
        (IMAGE - 2000, "hu", "reaches down to -2000 Hounsfield units, and air has -1000; let padding"),
        (IMAGE * 9000, "hu", "far outside of the scale from -1000 to 3071"),
        ((IMAGE * 4095).to(torch.uint16), "hu", "is of uint16, which cannot hold the -1000 of air"),
        (4095 * IMAGE - 1024, "max", r"reaches down to -1024, .* give scale: \(black, white\)"),
        (4095 * IMAGE - 1024, 3071, r"reaches down to -1024, .* give scale: \(black, white\)"),
    ]:
        with pytest.raises(ValueError, match=f"image: .*{said}"):
            range_of("image", image, scale)
    range_of("image", IMAGE + 1e-6)  # rounding
    range_of("ct", torch.tensor([-3024.0, 6000]), (-1024, 3071))  # padding of CT, metal


def test_what_is_dark():
    assert is_dark(4095 / 65535, torch.uint16)
    assert is_dark(16383 / 65535, torch.uint16)  # 14 bits in 16
    assert not is_dark(0.3, torch.uint16)
    assert is_dark(3e-4, torch.float32)
    assert not is_dark(0.1, torch.float32)
    assert not is_dark(1 / 255, torch.uint8)
    assert not is_dark(0.0, torch.float32)


@pytest.mark.parametrize(
    ("images", "refused"),
    [
        ([(0.0, torch.float32), (0.01, torch.float32)], True),
        ([(0.2, torch.uint16), (0.01, torch.float32)], True),  # each by its own type
        ([(0.01, torch.float32), (0.2, torch.float32)], False),
        ([(0.01, torch.float32), (0.01, None)], False),
        ([(0.01, torch.float32), (0.0, torch.uint8)], False),
        ([(0.0, torch.float32)], False),
        ([], False),
    ],
)
def test_sets_of_which_all_images_are_dark_are_refused(images, refused):
    with pytest.raises(ValueError, match="set: nothing in it is brighter than") if refused else nullcontext():
        refuse_dark("set", images)
