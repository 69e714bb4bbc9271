"""Hounsfield units: the numbers of the definition, and what they cannot be."""

import h5py
import numpy as np
import pytest
import torch

from unrolled.data import ImageData, attenuation_to_hu, hu_to_attenuation, open_images


def test_water_air_and_bone():
    hu = np.array([-1000, 0, 1000, 3071], np.int16)
    expected = torch.tensor([0, 0.02, 0.04, 0.08142])
    torch.testing.assert_close(hu_to_attenuation(hu), expected)
    torch.testing.assert_close(hu_to_attenuation(hu, water=0.2), 10 * expected)  # per cm
    torch.testing.assert_close(attenuation_to_hu(expected), torch.tensor([-1000.0, 0, 1000, 3071]))
    assert hu_to_attenuation(hu.astype(np.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hu_to_attenuation([0], water=-0.02), "water: its attenuation must be a finite number > 0, got -0.02"),
        (lambda: attenuation_to_hu([0.02], water=0.0), "water: its attenuation"),
        (lambda: hu_to_attenuation([0.0, -2000.0]), "hu: reaches down to -2000, and air has -1000"),
        (lambda: hu_to_attenuation([float("nan")]), "hu: reaches down to nan"),
        (lambda: attenuation_to_hu([0.02, -0.02]), "attenuation: reaches down to -0.02, and air does not attenuate"),
        (lambda: attenuation_to_hu([1j]), "attenuation: must be real numbers"),
        (lambda: hu_to_attenuation([]), "hu: must be real numbers, at least one"),
    ],
)
def test_what_cannot_be_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_slices_in_files_are_attenuation_in_parts_of_white(tmp_path):
    slices = np.random.default_rng(0).integers(-1024, 3072, (3, 40, 44)).astype(np.int16)
    with h5py.File(tmp_path / "ct.h5", "w") as file:
        file["hu"] = slices
    images = open_images(tmp_path / "ct.h5", scale="hu")
    expected = hu_to_attenuation(slices[1]) / 0.08142
    torch.testing.assert_close(images[1].read()[0], expected)
    window = slice(3, 20), slice(5, 30)
    torch.testing.assert_close(images[1].read(*window)[0], expected[window])
    store, held_out = ImageData(train=[str(tmp_path / "ct.h5")], hold_out=1, crop=16, scale="hu").load()
    assert len(store) == 2
    assert float(held_out[0].min()) == pytest.approx(-24 / 4071, abs=1e-3)
