import numpy as np
import pytest
import skimage.metrics
import torch

from unrolled.metrics import nmse, psnr, shown_psnr, ssim, volume_figures


def pair(channels=1, noise=0.1):
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, channels, 40, 50, generator=generator)
    return truth + noise * torch.randn(truth.shape, generator=generator), truth


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_agrees_with_scikit_image(channels):
    image, truth = pair(channels)
    clipped = image.clamp(0, 1)
    for index, value in enumerate(psnr(image, truth).tolist()):
        a, b = truth[index].numpy(), clipped[index].numpy()
        assert value == pytest.approx(skimage.metrics.peak_signal_noise_ratio(a, b, data_range=1), abs=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_agrees_with_scikit_image(channels):
    image, truth = pair(channels)
    for index, value in enumerate(ssim(image, truth).tolist()):
        a, b = truth[index].double().numpy(), image[index].clamp(0, 1).double().numpy()
        expected = skimage.metrics.structural_similarity(a, b, data_range=1, channel_axis=0)
        assert value == pytest.approx(expected, abs=1e-7)


def test_equal_images():
    _, truth = pair()
    assert psnr(truth, truth).tolist() == [np.inf] * 3
    torch.testing.assert_close(ssim(truth, truth), torch.ones(3, dtype=torch.float64))
    assert nmse(truth, truth).tolist() == [0.0] * 3


def test_psnr_of_a_known_error_is_per_image():
    truth = torch.full((2, 1, 8, 8), 0.5)
    image = truth + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    torch.testing.assert_close(psnr(image, truth).float(), torch.tensor([20.0, 40.0]), atol=1e-4, rtol=0)


def test_nmse_of_complex_images():
    truth = torch.full((1, 1, 2, 2), 3 + 4j)
    torch.testing.assert_close(nmse(truth * 1.1, truth), torch.tensor([0.01]))


def test_shapes_that_differ_are_refused():
    for metric in (psnr, ssim, nmse):
        with pytest.raises(ValueError, match="must both be"):
            metric(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 9))
    with pytest.raises(ValueError, match="at least 7 pixels"):
        ssim(torch.zeros(1, 1, 6, 8), torch.zeros(1, 1, 6, 8))


def test_quality_of_complex_images_is_that_of_their_magnitudes():
    image, truth = pair()
    angles = [torch.rand(truth.shape, generator=torch.Generator().manual_seed(seed)) * 6 for seed in (1, 2)]
    for metric in (psnr, ssim):
        found = metric(torch.polar(image.abs(), angles[0]), torch.polar(truth, angles[1]))
        torch.testing.assert_close(found, metric(image.abs(), truth), atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_figures_do_not_depend_on_units(metric):
    image, truth = pair()
    image = image.clamp(0, 1)
    expected = metric(image, truth)
    levels = [(255 * each).round() for each in (image, truth)]
    for a, b, peak, want in [
        (255 * image, 255 * truth, 255, expected),
        (4095 * image - 1024, 4095 * truth - 1024, (-1024, 3071), expected),
        (image.numpy(), truth.numpy(), None, expected),
        (image.double(), truth.double(), None, expected),
        (*(each.to(torch.uint8) for each in levels), None, metric(levels[0] / 255, levels[1] / 255)),
        (*(257 * each.to(torch.int32) for each in levels), 65535, metric(levels[0] / 255, levels[1] / 255)),
        (levels[0], levels[1].to(torch.uint8), None, metric(levels[0] / 255, levels[1] / 255)),
    ]:
        torch.testing.assert_close(metric(a, b, peak=peak), want, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_another_scale_is_refused_not_clipped(metric):
    image, truth = pair()
    for a, b, peak, said in [
        (255 * image, 255 * truth, None, r"truth: must lie in \[0, 1\], got .*; give the peak"),
        (255 * image, truth, None, "image: has values about .* bring both to one scale"),
        (image, 255 * truth, 255, "image: has values about .* bring both to one scale"),
        ((255 * truth).to(torch.uint8), truth, None, "image: is of torch.uint8 and truth of torch.float32"),
        (image, (255 * truth).to(torch.int16), None, "truth: is of torch.int16, whose white is not known"),
        (image, truth - 1, None, r"truth: must lie in \[0, 1\]"),
        (image, truth * torch.nan, None, r"truth: must lie in \[0, 1\], got nan"),
        (image, truth, 0, "peak: must be a finite number > 0"),
        (image, truth, torch.inf, "peak: must be a finite number > 0"),
        (image, truth, "white", "peak: must be an array of numbers"),
        (image[:0], truth[:0], None, "none of them 0"),
    ]:
        with pytest.raises(ValueError, match=said):
            metric(a, b, peak=peak)
    assert metric(image * torch.inf, truth).isnan().all()


def test_differences_of_bytes_do_not_wrap_around():
    image, truth = (torch.full((1, 1, 8, 8), value, dtype=torch.uint8) for value in (90, 100))
    torch.testing.assert_close(nmse(image, truth), torch.tensor([0.01], dtype=torch.float64))
    assert nmse(image * 0, image * 0).tolist() == [0]
    assert nmse(image, image * 0).tolist() == [np.inf]


def test_what_is_shown_is_clipped_on_both_sides():
    image, truth = torch.full((1, 1, 8, 8), 1.5), torch.full((1, 1, 8, 8), -0.2)
    torch.testing.assert_close(shown_psnr(image, truth), torch.zeros(1, dtype=torch.float64))


def test_types_with_other_whites_are_refused_unless_the_peak_is_given():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    for image, truth in ((levels, levels.astype(np.uint16)), (levels.astype(np.uint16), levels)):
        with pytest.raises(ValueError, match=r"image: is of torch\.uint.* give both one scale, or the peak"):
            psnr(image, truth)
        assert torch.isinf(psnr(image, truth, peak=255))


def test_a_peak_is_any_number_or_pair():
    truth = np.linspace(0, 255, 64).reshape(1, 1, 8, 8)
    for peak in (np.array([0, 255]), torch.tensor([0, 255]), np.float32(255), torch.tensor(255)):
        torch.testing.assert_close(psnr(truth * 0.9, truth, peak=peak), psnr(truth * 0.9, truth, peak=255))
    for peak in (True, 1j, [0, 1, 2], [1, 0]):
        with pytest.raises(ValueError, match="peak: must be a finite number > 0"):
            psnr(truth, truth, peak=peak)
    assert float(ssim(truth, truth, np.int64(7), peak=255)) == pytest.approx(1)


def test_tensors_without_values_are_refused():
    with pytest.raises(ValueError, match="image: is on the device meta"):
        psnr(torch.empty(1, 1, 9, 9, device="meta"), torch.ones(1, 1, 9, 9))


def test_figures_of_a_volume_are_those_of_fastmri():
    draw = np.random.default_rng(0)
    truth = 1e-5 * draw.gamma(2.0, size=(3, 30, 24)).astype(np.float32)
    image = truth + 2e-6 * draw.normal(size=truth.shape).astype(np.float32)
    found = volume_figures(image, torch.from_numpy(truth))
    a, b, peak = image.astype(float), truth.astype(float), float(truth.max())
    assert found["nmse"] == pytest.approx(np.linalg.norm(a - b) ** 2 / np.linalg.norm(b) ** 2, rel=1e-6)
    assert found["psnr"] == pytest.approx(skimage.metrics.peak_signal_noise_ratio(b, a, data_range=peak), abs=1e-5)
    slices = [skimage.metrics.structural_similarity(y, x, data_range=peak) for x, y in zip(a, b, strict=True)]
    assert found["ssim"] == pytest.approx(np.mean(slices), abs=1e-6)
    assert volume_figures(image * 1j, truth)["nmse"] == pytest.approx(volume_figures(abs(image), truth)["nmse"])
    assert volume_figures(truth, truth) == {"nmse": 0, "psnr": np.inf, "ssim": pytest.approx(1)}
    assert all(np.isnan(value) for value in volume_figures(image * np.nan, truth).values())


def test_volumes_without_figures_are_refused():
    truth = np.ones((2, 9, 8))
    for image, wrong, message in [
        (truth, truth[:, :, :6], "must be .* at least 7 × 7"),
        (truth[0], truth[0], r"must be \(slice, height, width\)"),
        (truth[:1], truth, "must both be"),
        (truth[:0], truth[:0], "none of them 0"),
        (truth, 0 * truth, "truth: must be finite and greater than 0"),
        (truth, np.nan * truth, "truth: must be finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            volume_figures(image, wrong)
