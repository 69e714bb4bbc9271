"""One network on many tasks: a small one beside a classical method that is tuned once."""

import json

import pytest
import torch

import unrolled
from benchmarks import tasks
from tests.helpers import write_picture
from unrolled.networks import EPGN
from unrolled.operators import Inpainting
from unrolled.solvers import methods


def test_a_network_beside_a_classical_method_that_is_tuned_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tasks, "SIDE", 33)
    monkeypatch.setattr(tasks, "METHODS", ("wavelet-l1",))
    monkeypatch.setattr(tasks, "TASKS", [task for task in tasks.TASKS if task.name == "random frequencies, 20%"])
    tasks.operator_of.cache_clear()
    for seed in range(2):
        write_picture(tmp_path / "images" / f"{seed}.png", 40, 36, seed)
    write_picture(tmp_path / "images" / "small.png", 20, 40)
    weights, file = tmp_path / "w.safetensors", tmp_path / "tasks.json"
    unrolled.save(weights, EPGN(1, 2, noise_range=(0.0, 0.1)), Inpainting(keep=0.5, height=8, width=8))
    images = str(tmp_path / "images")
    argv = ["--held-out", images, "--test", images, "--out", str(tmp_path / "out"), "--weights", f"mine={weights}"]
    tasks.main([*argv, "--json", str(file)])
    found = json.loads(file.read_text())
    assert found["images"] == 2  # the small one is left out
    (row,) = found["rows"]
    assert f"({row['networks']['mine'] - row['wavelet-l1']['psnr']:+.2f})" in capsys.readouterr().out
    # A strength that was tuned is at least as good as the default, on the images it was tuned on.
    (task,) = tasks.TASKS
    held_out = tasks.images_of(images)
    default = tasks.score(
        task,
        held_out,
        lambda y, operator: methods.classical("wavelet-l1", y, operator, methods.STRENGTHS["wavelet-l1"], scale=1.0),
    )
    assert row["wavelet-l1"]["psnr"] >= default - 1e-6
    network, _ = unrolled.load(weights)
    with torch.no_grad():
        y = [tasks.measured(task, image, seed) for seed, image in enumerate(held_out)]
        scores = [
            unrolled.metrics.psnr(network(each, tasks.operator_of(task), noise=0.02), image)
            for each, image in zip(y, held_out, strict=True)
        ]
    assert row["networks"]["mine"] == pytest.approx(float(torch.stack(scores).mean()), abs=1e-4)
    monkeypatch.setattr(tasks, "tuned", lambda *_: pytest.fail("it is known"))
    tasks.main(argv)
