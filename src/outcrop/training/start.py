"""Initial weights of a training from another network, matched by name and shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.models.architectures import Network
from outcrop.models.factory import build
from outcrop.patches.patchset import PatchSet
from outcrop.progress import tell, warn
from outcrop.training.checkpoint import checksum
from outcrop.training.classifier import read_classifier

_COUNTER = "num_batches_tracked"
_NAMED = 3

# Names of layers in torchvision and in implementations for CIFAR-10.
_NAMES = (
    (r"^module\.", ""),
    (r"\bbn(\d)\.", r"norm\1."),
    (r"\b(?:downsample|shortcut)\.0\.", "shortcut.conv."),
    (r"\b(?:downsample|shortcut)\.1\.", "shortcut.norm."),
    (r"^layer(\d)\.(\d+)\.((?:conv|norm)\d)\.", r"stages.stage\1.block{}.residual.\3."),
    (r"^layer(\d)\.(\d+)\.shortcut\.", r"stages.stage\1.block{}.shortcut."),
    (r"^(conv|norm)1\.", r"stem.\1."),
    (r"^fc\.", "linear."),
)


@dataclass(frozen=True)
class FirstWeights:
    """Initial weights of a training.

    Attributes:
        source: run or file, as the user named it.
        tensors: weights that fit, by their names in `ResidualNetwork`.
        checksum: checksum of all weights in the source.
    """

    source: str
    tensors: Mapping[str, Tensor]
    checksum: int


def first_weights(source: str | Path, network: Network, patches: PatchSet) -> FirstWeights:
    """Read weights, and log which of them fit.

    Bands and classes of a run are matched by name. If their order differs, weights are reordered;
    if their names differ, the layers that depend on them keep new weights. A file has no names of
    bands and classes: all weights with the same name and shape are used.

    Args:
        source: folder of a run of a classifier, or safetensors file; names of weights may be those
            of torchvision.
        network, patches: network that is trained, and the patches.

    Raises:
        OutcropError: neither run nor safetensors file, or damaged; NaN or infinite weights; no
            weight fits.
    """
    path = Path(source)
    wanted = _shapes(network, patches)
    reasons: dict[str, str] = {}
    if path.is_dir():
        tensors, reasons = _of_run(path, network, patches)
    else:
        with decoding(path, "a safetensors file", "name a run or another file"):
            tensors = load_file(path)
    given = {name if name in wanted else our_name(name): tensor for name, tensor in tensors.items()}
    fitting = {
        name: tensor
        for name, tensor in given.items()
        if wanted.get(name) == tensor.shape and name not in reasons
    }
    weights = _without_counters(wanted)
    taken = _without_counters(fitting)
    if not taken:
        raise OutcropError(
            path,
            f"none of its {len(_without_counters(given))} weights fits {network.title}; take the "
            "depth, width and kind of network that it holds, or leave out `start_from`",
        )
    for name in taken:
        if not fitting[name].isfinite().all():
            raise OutcropError(path, f"its {name} holds NaN or infinity; take other weights")
    new = [
        name + (f" ({reasons[name]})" if name in reasons else "")
        for name in weights
        if name not in fitting
    ]
    unused = [name for name in _without_counters(given) if name not in weights]
    tell(
        f"starting from {source}: {len(taken)} of {len(weights)} weights are taken"
        + (f"; new: {_some(new)}" if new else "")
    )
    if unused:
        warn(f"{source}: {len(unused)} of its weights have no place here: {_some(unused)}")
    return FirstWeights(str(source), fitting, checksum(tensors))


def our_name(name: str) -> str:
    """The name in `ResidualNetwork` of a weight with a name of another implementation.

    >>> our_name("layer2.0.bn1.weight"), our_name("layer2.0.downsample.0.weight")
    ('stages.stage2.block1.residual.norm1.weight', 'stages.stage2.block1.shortcut.conv.weight')
    """
    block = re.match(r"(?:module\.)?layer\d\.(\d+)\.", name)
    for theirs, ours in _NAMES:
        name = re.sub(theirs, ours.format(int(block[1]) + 1 if block else ""), name)
    return name


def _of_run(
    folder: Path, network: Network, patches: PatchSet
) -> tuple[Mapping[str, Tensor], dict[str, str]]:
    """The weights of a run, and by name the reasons not to use some of them."""
    classifier = read_classifier(folder, "cpu")
    reasons: dict[str, str] = {}
    if set(classifier.bands) == set(patches.bands):
        classifier = classifier.in_order([patches.bands.index(one) for one in classifier.bands])
    else:
        reasons |= dict.fromkeys(_that_differ(network, patches, bands=1), "other bands")
    tensors = dict(classifier.module.state_dict())
    give_classes = _that_differ(network, patches, classes=1)
    if set(classifier.classes) == set(patches.classes):
        order = torch.tensor([classifier.classes.index(one) for one in patches.classes])
        for name, axis in give_classes.items():
            if name in tensors and tensors[name].shape[axis:][:1] == order.shape:
                tensors[name] = tensors[name].index_select(axis, order)
    else:
        reasons |= dict.fromkeys(give_classes, "other classes")
    return tensors, reasons


def _shapes(
    network: Network, patches: PatchSet, bands: int = 0, classes: int = 0
) -> dict[str, torch.Size]:
    """Shapes of the weights for these patches, or for more bands and classes."""
    # Meta tensors have shapes but no numbers.
    with torch.device("meta"):
        module = build(
            network, len(patches.bands) + bands, len(patches.classes) + classes, patches.size
        )
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _that_differ(
    network: Network, patches: PatchSet, bands: int = 0, classes: int = 0
) -> dict[str, int]:
    """Weights whose shape depends on bands or classes, and the first axis that does."""
    here, there = _shapes(network, patches), _shapes(network, patches, bands, classes)
    differ = {name: shape for name, shape in here.items() if shape != there[name]}
    return {
        name: [one == other for one, other in zip(shape, there[name], strict=True)].index(False)
        for name, shape in differ.items()
    }


def _without_counters(tensors: Iterable[str]) -> list[str]:
    return [name for name in tensors if not name.endswith(_COUNTER)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
