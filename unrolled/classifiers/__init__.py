"""The networks on which sparsification is compared: small ones for MNIST, residual ones for CIFAR."""

from unrolled.classifiers.activations import BinaryActivation
from unrolled.classifiers.classifier import Classifier, ImageClassifier
from unrolled.classifiers.lenet import LeNet5, LeNet300100
from unrolled.classifiers.residual import CifarResNet, WideResNet

__all__ = [
    "BinaryActivation",
    "CifarResNet",
    "Classifier",
    "ImageClassifier",
    "LeNet5",
    "LeNet300100",
    "WideResNet",
]
