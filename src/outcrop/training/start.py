"""First weights of a training from those of another network: what fits, by name and shape."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.progress import tell
from outcrop.training.checkpoint import checksum
from outcrop.training.classifier import read_classifier

_HEAD = ("linear.weight", "linear.bias")
_TAKES_BANDS = ("stem.conv.weight", "pixel.conv1.weight")
_COUNTER = "num_batches_tracked"
_NAMED = 3

# What others call the layers of residual networks: torchvision, and implementations for CIFAR-10.
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
    """Weights that a training starts from.

    Attributes:
        source: the run or file, as the user named it.
        tensors: by their names in `ResidualNetwork`; only those that fit.
        checksum: of all that the source holds.
    """

    source: str
    tensors: Mapping[str, Tensor]
    checksum: int


def first_weights(source: str | Path, network: ResidualNet, patches: PatchSet) -> FirstWeights:
    """Read weights, and say on standard error what fits and what does not.

    Of a run, bands and classes are matched by name: in another order they are put in order, and
    others leave the layers new that take or give them. A file tells no names, and all that has the
    same shape is taken.

    Args:
        source: the folder of a run of a classifier, or a safetensors file, whose names may be those
            of torchvision and its relatives.
        network: what is to be trained.
        patches: what it is to be trained on.

    Raises:
        OutcropError: it is neither, or damaged; a weight is no number; nothing fits.
    """
    path = Path(source)
    if path.is_dir():
        tensors, reasons = _of_run(path, patches)
    else:
        with decoding(path, "a safetensors file", "name a run or another file"):
            tensors, reasons = load_file(path), {}
    given = {our_name(name): tensor for name, tensor in tensors.items()}
    # Meta tensors have shapes but no numbers.
    with torch.device("meta"):
        wanted = network.build(len(patches.bands), len(patches.classes)).state_dict()
    fitting = {
        name: tensor
        for name, tensor in given.items()
        if name in wanted and tensor.shape == wanted[name].shape and name not in reasons
    }
    weights = _without_counters(wanted)
    taken = _without_counters(fitting)
    if not taken:
        raise OutcropError(
            path,
            f"none of its {len(_without_counters(given))} weights fits {network.title}; take the "
            "depth, width and kind of network that it holds, or leave out --start-from",
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
        tell(f"{source}: {len(unused)} of its weights have no place here: {_some(unused)}")
    return FirstWeights(str(source), fitting, checksum(tensors))


def our_name(name: str) -> str:
    """The name in `ResidualNetwork` of a weight that others have published.

    >>> our_name("layer2.0.bn1.weight"), our_name("layer2.0.downsample.0.weight")
    ('stages.stage2.block1.residual.norm1.weight', 'stages.stage2.block1.shortcut.conv.weight')
    """
    if name.startswith(("stem.", "stages.", "pixel.", "norm.", "linear.")):
        return name
    block = re.match(r"(?:module\.)?layer\d\.(\d+)\.", name)
    for theirs, ours in _NAMES:
        name = re.sub(theirs, ours.format(int(block[1]) + 1 if block else ""), name)
    return name


def _of_run(folder: Path, patches: PatchSet) -> tuple[Mapping[str, Tensor], dict[str, str]]:
    """The weights of a run, and why some are not to be taken, by name."""
    classifier = read_classifier(folder, "cpu")
    reasons: dict[str, str] = {}
    if set(classifier.bands) == set(patches.bands):
        classifier = classifier.in_order([patches.bands.index(one) for one in classifier.bands])
    else:
        reasons |= dict.fromkeys(_TAKES_BANDS, "other bands")
    tensors = dict(classifier.module.state_dict())
    if set(classifier.classes) == set(patches.classes):
        order = [classifier.classes.index(one) for one in patches.classes]
        tensors |= {name: tensors[name][order] for name in _HEAD}
    else:
        reasons |= dict.fromkeys(_HEAD, "other classes")
    return tensors, reasons


def _without_counters(tensors: Mapping[str, Tensor]) -> list[str]:
    return [name for name in tensors if not name.endswith(_COUNTER)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
