import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from tests.helpers import picture, write_picture
from unrolled.data import Batches, DatasetBatches, ImageData, Prefetch, RandomCrops
from unrolled.data.crops import crop_sides
from unrolled.data.sources import cut


class Images(TensorDataset):
    def __getitem__(self, index):
        return super().__getitem__(index)[0]


def batches():
    return {
        "crops": RandomCrops([picture(40, 50), picture(60, 45, 1)], crop=22, seed=3),
        "prefetched": Prefetch(RandomCrops([picture(40, 50), picture(60, 45, 1)], crop=22, seed=3)),
        "dataset": DatasetBatches(Images(torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))), seed=3),
    }


@pytest.mark.parametrize("name", batches())
def test_a_batch_is_a_function_of_seed_and_step(name):
    there, back = batches()[name], batches()[name]
    forward = [there.batch(step, 4) for step in range(6)]
    for step in (5, 0, 3, 3):
        assert torch.equal(back.batch(step, 4), forward[step])
    assert not torch.equal(forward[0], forward[1])


@pytest.mark.parametrize("name", batches())
def test_processes_draw_the_parts_of_one_batch(name):
    source = batches()[name]
    for step in range(3):
        parts = [source.batch(step, 7, range(rank, 7, 3)) for rank in range(3)]
        whole = source.batch(step, 7)
        for rank, part in enumerate(parts):
            assert torch.equal(part, whole[rank::3])
    for wrong in (range(7, 8), range(-1, 2), range(0)):
        with pytest.raises(ValueError, match="part must be places of a batch of 7"):
            source.batch(0, 7, wrong)


def test_another_seed_gives_other_crops():
    images = [picture(40, 50)]
    assert not torch.equal(RandomCrops(images, 22, 0).batch(0, 4), RandomCrops(images, 22, 1).batch(0, 4))


def test_crops_are_windows_of_the_images_in_all_eight_orientations():
    image = torch.arange(13 * 17, dtype=torch.float32).view(1, 13, 17) / 255
    crops = RandomCrops([image], crop=9)
    windows = image[0].unfold(0, 9, 1).unfold(1, 9, 1).reshape(-1, 9, 9)
    orientations = set()
    for crop in crops.batch(0, 100):
        for turn in range(8):
            turned = torch.rot90(crop[0], turn % 4)
            turned = turned.flip(-1) if turn >= 4 else turned
            if (windows - turned).abs().flatten(1).amax(1).min() < 1e-6:
                orientations.add(turn)
                break
        else:
            raise AssertionError("a crop is no window of the image")
    assert orientations == set(range(8))


def test_crops_are_drawn_as_ever():
    """A run that goes on must draw what it would have drawn: this is how crops have been drawn from the first."""
    images = [picture(40, 50), picture(60, 45, 1), picture(30, 90, 2)]
    area = np.array([image[0].numel() for image in images], dtype=np.float64)
    for index, crop in enumerate(RandomCrops(images, 22, seed=3).batch(5, 50)):
        random = np.random.default_rng((3, 5, index))
        image = images[random.choice(3, p=area / area.sum())]
        top, left = (int(random.integers(side - 22 + 1)) for side in image.shape[-2:])
        patch = torch.rot90(image[:, top : top + 22, left : left + 22], int(random.integers(4)), dims=(-2, -1))
        assert torch.equal(crop, patch.flip(-1) if random.integers(2) else patch)


def test_crops_that_are_not_square_keep_their_sides():
    image = torch.arange(13 * 17, dtype=torch.float32).view(1, 13, 17) / 255
    crops = RandomCrops([image], crop=(9, 5))
    assert len(crops) == 13 * 17 // 45
    windows = image[0].unfold(0, 9, 1).unfold(1, 5, 1).reshape(-1, 9, 5)
    orientations = set()
    for crop in crops.batch(0, 100):
        assert crop.shape == (1, 9, 5)
        turns = {"as it is": [], "upside down": [0], "mirrored": [1], "by a half turn": [0, 1]}
        found = [
            name for name, dims in turns.items() if any(torch.equal(window.flip(dims), crop[0]) for window in windows)
        ]
        assert len(found) == 1
        orientations |= {*found}
    assert len(orientations) == 4


def test_a_pair_of_equal_sides_is_the_square():
    images = [picture(40, 50)]
    assert torch.equal(RandomCrops(images, (22, 22), 3).batch(0, 8), RandomCrops(images, 22, 3).batch(0, 8))


def test_shrunk_and_framed_crops_have_the_shape_too(tmp_path):
    images = [picture(30, 40), picture(8, 50, 1)]
    crops = RandomCrops(images, (20, 12), smallest=0.5, frame=True).batch(0, 40)
    assert crops.shape == (40, 1, 20, 12)
    write_picture(tmp_path / "wide.png", 30, 60)
    write_picture(tmp_path / "tall.png", 60, 30)
    for cache in (0, 64):
        with pytest.warns(UserWarning, match="1 training images smaller than 40×20 are left out"):
            store, _ = ImageData(
                [str(tmp_path)], validation="embedded", crop=(20, 10), smallest=0.5, cache_mib=cache
            ).load()
        assert RandomCrops(store, (20, 10), smallest=0.5).batch(0, 4).shape == (4, 1, 20, 10)
    with pytest.raises(ValueError, match=r"\(1, 30, 40\), shrunk by 0.5, is smaller than the crop of 16×12"):
        RandomCrops(images[:1], (16, 12), smallest=0.5)


@pytest.mark.parametrize("wrong", [0, -3, 2.5, "66", (66,), (66, 0), (1, 2, 3), (66, 2.0)])
def test_what_is_no_size_is_refused(wrong):
    for make in (lambda: ImageData(crop=wrong), lambda: RandomCrops([picture(99, 99)], wrong)):
        with pytest.raises(ValueError, match=r"crop must be (a whole number|>= 1, a number of pixels or .*), got "):
            make()


def test_the_size_of_crops_follows_the_operator():
    assert crop_sides(None) == (66, 66)
    assert crop_sides(None, 33) == (66, 66)
    assert crop_sides(None, 32) == (96, 96)
    assert crop_sides(None, 1, (640, 368)) == (640, 368)
    assert crop_sides([64, 32], 32) == (64, 32)
    with pytest.raises(ValueError, match=r"crop must be a multiple of 32 for this operator, got \(64, 33\)"):
        crop_sides((64, 33), 32)
    with pytest.raises(ValueError, match=r"crop must be \(640, 368\) \(height, width\), .* got 368"):
        crop_sides(368, 1, (640, 368))


class Slow(Batches):
    """Says when a step was drawn, and in which thread; step 3 fails."""

    def __init__(self):
        self.drawn, self.threads = [threading.Event() for _ in range(5)], set()

    def __len__(self):
        return 1

    def batch(self, step, size, part=None):
        self.drawn[step].set()
        self.threads.add(threading.get_ident())
        if step == 3:
            raise ValueError("a broken file")
        return torch.full((size, 1, 2, 2), float(step))


def test_the_next_batch_is_drawn_meanwhile_and_fails_in_its_turn():
    slow = Slow()
    source = Prefetch(slow)
    for step in range(3):
        assert (source.batch(step, 2) == step).all()
        assert slow.drawn[step + 1].wait(timeout=60)
    with pytest.raises(ValueError, match="a broken file"):
        source.batch(3, 2)
    assert (source.batch(0, 2) == 0).all()
    assert len(slow.threads) == 1
    assert threading.get_ident() not in slow.threads


def test_larger_images_are_drawn_more_often():
    small, large = torch.zeros(1, 20, 20), torch.ones(1, 60, 20)
    share = RandomCrops([small, large], crop=10).batch(0, 2000).mean().item()
    assert share == pytest.approx(0.75, abs=0.05)


def test_a_data_set_is_seen_whole_in_every_epoch():
    source = batches()["dataset"]
    epoch = torch.cat([source.batch(step, 5) for step in range(2)])
    order = [int((source.dataset.tensors[0] == image).flatten(1).all(1).nonzero()) for image in epoch]
    assert sorted(order) == list(range(10))


def test_bad_sources_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        RandomCrops([], 9)
    with pytest.raises(ValueError, match="smaller than the crop of 99"):
        RandomCrops([picture(40, 50)], 99)
    with pytest.raises(ValueError, match="empty"):
        DatasetBatches(Images(torch.zeros(0, 1, 8, 8)))


def test_held_out_images_are_never_trained_on(tmp_path):
    for index in range(10):
        write_picture(tmp_path / f"{index}.png", 66, 66, seed=index)
    data = ImageData(train=[str(tmp_path)], hold_out=3, crop=66)
    training, validation = data.load(33, seed=1)
    assert (len(training), len(validation)) == (7, 3)
    for held in validation:
        assert not any(torch.equal(held, image) for image in training)
    again = data.load(33, seed=1)[1]
    assert all(torch.equal(a, b) for a, b in zip(validation, again, strict=True))


def test_image_data_refuses_what_cannot_work(tmp_path):
    write_picture(tmp_path / "a.png", 40, 40)
    with pytest.raises(ValueError, match="crop must be a multiple of 33"):
        ImageData(crop=64).load(33)
    with pytest.raises(ValueError, match="hold_out must be below the 1"):
        ImageData(train=[str(tmp_path)], hold_out=1, crop=33).load(33)
    with pytest.raises(ValueError, match="smaller than the crop of 66"):
        ImageData(train=[str(tmp_path)], validation="embedded", crop=66).load(33)
    for options, name in [
        ({"train": []}, "train"),
        ({"crop": 0}, "crop"),
        ({"hold_out": 0}, "hold_out"),
        ({"cache_mib": -1}, "cache_mib"),
    ]:
        with pytest.raises(ValueError, match=f"data: {name} must"):
            ImageData(**options)


def test_small_training_images_are_left_out_with_a_warning(tmp_path):
    write_picture(tmp_path / "small.png", 40, 40)
    write_picture(tmp_path / "large.png", 80, 80)
    with pytest.warns(UserWarning, match="1 training images smaller than 66"):
        training, _ = ImageData(train=[str(tmp_path)], validation="embedded").load(33)
    assert len(training) == 1


def test_validation_images_are_cut_around_their_centre():
    image = torch.from_numpy(np.indices((100, 400)).sum(0)[None].astype(np.float32))
    (centre,) = cut([image], 33)
    assert centre.shape == (1, 99, 264)
    assert centre[0, 0, 0] == 0 + 68
    with pytest.raises(ValueError, match="smaller than one block of 33"):
        cut([torch.zeros(1, 20, 40)], 33)


def test_shrunk_crops_show_more_of_the_image():
    # A ramp: what a crop spans, end to end, is the part of the image that it shows.
    ramp = torch.linspace(0, 1, 64).expand(1, 64, 64).contiguous()
    spans = [float(crop.max() - crop.min()) for crop in RandomCrops([ramp], 16, smallest=0.5).batch(0, 60)]
    assert all(15 / 63 - 1e-2 <= span <= 32 / 63 + 1e-2 for span in spans)
    assert min(spans) < 17 / 63 + 1e-2
    assert max(spans) > 29 / 63


def test_framed_images_are_whole_and_at_random_places():
    image = picture(10, 12)
    crops = RandomCrops([image], 20, frame=True).batch(0, 30)
    assert crops.shape == (30, 1, 20, 20)
    torch.testing.assert_close(crops.sum((1, 2, 3)), image.sum().expand(30), rtol=1e-2, atol=0)
    assert len({tuple(crop[0].nonzero()[0].tolist()) for crop in crops}) > 10
    shrunk = RandomCrops([image], 20, smallest=0.5, frame=True).batch(0, 30)
    assert 0.2 < float(shrunk.sum((1, 2, 3)).min() / image.sum()) < 0.5


def test_bad_scales_and_frames_are_refused(tmp_path):
    for smallest in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"smallest must be in \(0, 1\]"):
            RandomCrops([picture(20, 20)], 10, smallest=smallest)
        with pytest.raises(ValueError, match=r"smallest must be in \(0, 1\]"):
            ImageData(smallest=smallest)
    with pytest.raises(ValueError, match=r"shrunk by 0.4, is smaller than the crop of 10"):
        RandomCrops([picture(20, 20)], 10, smallest=0.4)


def test_validation_images_have_the_size_that_an_operator_measures():
    (cut_image,) = cut([picture(20, 30)], 1, exactly=(12, 16))
    assert torch.equal(cut_image, picture(20, 30)[:, 4:16, 7:23])
    with pytest.raises(ValueError, match=r"a validation image of \(1, 20, 30\) is smaller than \(21, 16\)"):
        cut([picture(20, 30)], 1, exactly=(21, 16))


class Items(Dataset):
    """A data set of what it is given."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


LEVELS = [(picture(9, 8, seed) * 255).round().to(torch.uint8) for seed in range(5)]

ITEMS = {
    "floats": [image / 255 for image in LEVELS],
    "bytes": LEVELS,
    "(image, label)": [(image, 3) for image in LEVELS],
    "[image, label]": [[image.numpy(), np.int64(3)] for image in LEVELS],
    "(height, width)": [image[0] for image in LEVELS],
    "arrays": [image.numpy() for image in LEVELS],
    "doubles": [image.double().numpy() / 255 for image in LEVELS],
    "16 bits": [image.numpy().astype(np.uint16) * 257 for image in LEVELS],
    "pictures with labels": [(Image.fromarray(image[0].numpy()), "class") for image in LEVELS],
}


@pytest.mark.parametrize("kind", ITEMS)
def test_items_of_every_kind_are_the_same_images(kind):
    batch = DatasetBatches(Items(ITEMS[kind])).batch(1, 3)
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch, DatasetBatches(Items(ITEMS["floats"])).batch(1, 3), atol=1e-6, rtol=0)
    scaled = DatasetBatches(Items([1000 * image.float() for image in LEVELS]), scale=255_000).batch(1, 3)
    torch.testing.assert_close(scaled, batch, atol=1e-6, rtol=1e-6)


class Endless(IterableDataset):
    def __iter__(self):
        return iter(ITEMS["floats"])


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (DataLoader(Items(ITEMS["floats"]), 2), r"give the data set of the DataLoader \(loader.dataset\)"),
        (Endless(), "must have items by number .* got Endless"),
        (iter([1]), "must have items by number"),
        (Items([]), "is empty"),
        (Items(["a.png"]), "item 0: must be an array of numbers, got 'a.png'"),
        (Items([{"image": 1}]), "item 0: must be an array of numbers, got a dict"),
        (Items([255 * image for image in ITEMS["floats"]]), r"item 0: values must be in \[0, 1\], got .*; give scale"),
        (Items([3e-4 * image for image in ITEMS["floats"]]), "nothing in it is brighter"),
        (Items([torch.zeros(2, 1, 9, 8)]), r"must be \(channel, height, width\)"),
        (Items([torch.full((1, 9, 8), torch.nan)]), "item 0: must be finite"),
        (Items([torch.zeros(1, 9, 8, dtype=torch.int16)]), "item 0: is of int16, whose white is not known"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_data_set_of_images_is_said_before_training(dataset, said):
    with pytest.raises(ValueError, match=f"(?i)data ?set.*{said}"):
        DatasetBatches(dataset)


def test_images_of_several_sizes_and_items_that_fail_are_named():
    with pytest.raises(ValueError, match="dataset: images must be of one size, got"):
        DatasetBatches(Items([torch.zeros(1, 9, 8), torch.ones(1, 9, 9)])).batch(0, 2)

    class Failing(Items):
        def __getitem__(self, index):
            raise KeyError("lost")

    with pytest.raises(ValueError, match="dataset: item 0 cannot be read: 'lost'"):
        DatasetBatches(Failing([1]))


def test_in_the_midst_of_a_run_an_overshoot_is_no_reason_to_stop():
    images = [torch.rand(1, 9, 8) for _ in range(40)]
    batches = DatasetBatches(Items(images))
    images[:] = [1.02 * image for image in images]
    assert batches.batch(0, 40).max() > 1
    images[:] = [255 * image for image in images]
    with pytest.raises(ValueError, match=r"values must be in \[0, 1\]"):
        batches.batch(0, 40)
