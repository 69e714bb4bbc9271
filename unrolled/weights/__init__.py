"""Weights as files: safetensors that carry the recipe of their network and operator, and a card."""

from unrolled.weights.card import find, names, read_card, record
from unrolled.weights.classifiers import load_classifier, save_classifier
from unrolled.weights.converting.conversion import Converted, convert
from unrolled.weights.networks import load, save
from unrolled.weights.transfer import take

__all__ = [
    "Converted",
    "convert",
    "find",
    "load",
    "load_classifier",
    "names",
    "read_card",
    "record",
    "save",
    "save_classifier",
    "take",
]
