"""Loose images with labels: CIFAR-10, a folder per class, npz. Nothing is unpickled or unpacked."""

from outcrop.sources.collections.cifar import cifar10
from outcrop.sources.collections.collection import SIDES, Collection
from outcrop.sources.collections.npz import UNLABELLED
from outcrop.sources.collections.read import read_collection

__all__ = ["SIDES", "UNLABELLED", "Collection", "cifar10", "read_collection"]
