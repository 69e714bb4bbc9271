"""Tensors fit their modules, or are refused."""

import json

import pytest
import torch
from safetensors.torch import save_file

import unrolled
from unrolled.weights.tensors import hash_of


def test_tensors_that_do_not_fit_are_refused_though_the_hash_is_right(tmp_path, whole):
    tensors, card = whole
    key = "network.phases.0.raw_alpha"
    for change, message in [
        ({key: torch.tensor(float("nan"))}, f"{key} holds NaN"),
        ({key: torch.tensor(1e300, dtype=torch.float64)}, f"{key} holds NaN or inf"),
        ({key: torch.tensor(1j)}, f"{key} must be torch.float32, got torch.complex64"),
        ({key: torch.ones(3)}, "size mismatch"),
        ({key: None}, "Missing key"),
        ({"network.extra": torch.ones(1)}, "Unexpected key"),
        ({"elsewhere": torch.ones(1)}, "Unexpected key"),
    ]:
        kept = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
        facts = {**card, "sha256": hash_of(kept)}
        save_file(kept, tmp_path / "w.safetensors", metadata={"card": json.dumps(facts)})
        with pytest.raises(ValueError, match=f"(?s)does not fit its own card.*{message}"):
            unrolled.load(tmp_path / "w.safetensors")
