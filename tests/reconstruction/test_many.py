import numpy as np
import pytest
import torch

import unrolled
from tests.helpers import picture, write_picture
from tests.volumes import nifti, write_series
from unrolled.networks import EPGN
from unrolled.operators import BlockCompressedSensing, MaskedFourier, RadialMask
from unrolled.reconstruction import many


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return EPGN(1, 2).eval(), BlockCompressedSensing(ratio=0.5, block=11)


def test_each_is_what_it_is_alone_in_the_order_of_the_list(model, monkeypatch):
    batches = []
    monkeypatch.setattr(many, "invert", lambda y, *rest, **how: batches.append(len(y)) or invert(y, *rest, **how))
    invert = unrolled.reconstruction.pipeline.invert
    images = [
        picture(22, 33, 0),
        picture(22, 33, 1),
        picture(20, 30, 2),
        torch.full((1, 3, 3), 0.5),
        picture(22, 33, 3),
    ]
    found = list(unrolled.reconstruct_all(images, *model))
    assert [each.name for each in found] == [f"image {number}" for number in range(5)]
    assert batches == [2, 1, 1]  # those of one size that follow each other
    for image, each in zip(images, found, strict=True):
        if len(image[0]) == 3:
            assert "at least 7 pixels" in each.error
            assert each.image is None
            continue
        torch.testing.assert_close(each.image, unrolled.reconstruct(image, *model))
        figures = unrolled.evaluate(model[0], [image], model[1])
        assert (each.psnr, each.ssim) == pytest.approx((figures["psnr"], figures["ssim"]), abs=1e-5)


def test_one_that_fails_in_a_batch_fails_alone(model, monkeypatch):
    invert = unrolled.reconstruction.pipeline.invert

    def failing(y, *rest, **how):
        if bool((y == y.max()).any()) and float(y.abs().max()) > bright:
            raise ValueError("no image could be made")
        return invert(y, *rest, **how)

    images = [picture(22, 22, 0) / 4, picture(22, 22, 1), picture(22, 22, 2) / 4]
    bright = 0.9 * float(model[1](images[1][None]).abs().max())
    monkeypatch.setattr(many, "invert", failing)
    assert [bool(each.error) for each in unrolled.reconstruct_all(images, *model)] == [False, True, False]


def test_folders_volumes_and_series(model, tmp_path):
    write_picture(tmp_path / "b.png", 22, 22)
    write_picture(tmp_path / "a" / "c.jpg", 22, 22, mode="RGB")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "broken.h5").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("no image")
    volume = (1000 * torch.cat([picture(22, 22, seed) for seed in range(2)])).numpy().astype(np.uint16)
    (tmp_path / "v.nii.gz").write_bytes(nifti(volume.transpose(2, 1, 0), packed=True))
    write_series(tmp_path / "ct", volume, RescaleIntercept="-100", RescaleSlope="1")
    found = list(unrolled.reconstruct_all(tmp_path, *model, scale=(-100, 1100)))
    names = ["a/c.jpg", "b.png", "broken.h5", "broken.png", "ct/IM002", "ct/IM001", "v.nii.gz 0", "v.nii.gz 1"]
    assert [each.name for each in found] == names
    assert [each.name for each in found if each.error] == [names[2], names[3]]
    for k in range(2):
        assert np.abs(found[4 + k].image.numpy() - (volume[k] - 100.0)).mean() < 50
        assert np.abs(found[6 + k].image.numpy() - volume[k]).mean() < 50


def test_a_volume_in_other_units_than_it_seems_is_refused_as_a_whole(model, tmp_path):
    dark = 0.02 * torch.cat([picture(22, 22, seed) for seed in range(2)]).numpy().transpose(2, 1, 0)
    (tmp_path / "dark.nii").write_bytes(nifti(dark))
    dark[..., 1] *= 40  # one bright slice, and the others may be dark
    (tmp_path / "edge.nii").write_bytes(nifti(dark))
    found = {each.name: each.error for each in unrolled.reconstruct_all(tmp_path, *model)}
    assert ["probably in other units" in error for error in found.values()] == [True, True, False, False]


def test_complex_images_stay_complex_unless_magnitudes_are_asked_for():
    operator = MaskedFourier(RadialMask(0.5), 22, 22, complex_images=True)
    network, image = EPGN(1, 2, complex_images=True), torch.polar(picture(22, 22), picture(22, 22, 1))
    (found,) = unrolled.reconstruct_all([image], network, operator)
    (shown,) = unrolled.reconstruct_all([image], network, operator, magnitude=True)
    torch.testing.assert_close(found.image, unrolled.reconstruct(image, network, operator))
    torch.testing.assert_close(shown.image, found.image.abs().clamp(0, 1))


def test_what_is_no_list_of_images_is_refused(model, tmp_path):
    for bad, said in [
        (tmp_path, "holds no images"),
        (tmp_path / "x", "no file or folder"),
        ([], "one at least"),
        (3, "a folder"),
    ]:
        with pytest.raises(ValueError, match=said):
            unrolled.reconstruct_all(bad, *model)
    with pytest.raises(ValueError, match=r"is a folder; unrolled.reconstruct_all"):
        unrolled.reconstruct(tmp_path, *model)
