"""Descriptions of networks: plain data for configurations and model folders."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from itertools import chain
from math import prod
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from outcrop.errors import OutcropError
from outcrop.typed import typed

if TYPE_CHECKING:
    from torch import nn


Factory = Callable[[int, int], "nn.Module"]
"""A function of the numbers of bands and classes that returns a user's network."""


def check(settings: Any, what: str, *rules: tuple[str, bool, str]) -> None:
    """Check the range of settings, and that fields of a `Literal` type have one of its values.

    Args:
        settings: a dataclass.
        what: its name in the error message.
        rules: for each field its name, whether its value is valid, and the valid range.

    Raises:
        OutcropError: an invalid value.
    """
    words = (
        (name, getattr(settings, name) in values, range_)
        for name, values, range_ in _rules_for_words(settings.__class__)
    )
    for name, good, range_ in (*words, *rules):
        if not good:
            raise OutcropError(what, f"{name} is {getattr(settings, name)}; take {range_}")


@cache
def _rules_for_words(kind: Any) -> list[tuple[str, tuple[str | None, ...], str]]:
    """Name, values and range of each field whose type is a `Literal`, or a `Literal` or None."""
    found = []
    for name, hint in get_type_hints(kind).items():
        options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        words = [word for one in options if get_origin(one) is Literal for word in get_args(one)]
        if words:
            none = [None] if type(None) in options else []
            range_ = f"{', '.join(words[:-1])} or {words[-1]}"
            found.append((name, (*words, *none), range_))
    return found


@dataclass(frozen=True)
class ResidualNet:
    """A residual network of any depth: ResNet, pre-activation, wide, stochastic depth, RoR.

    Three stages of residual blocks; each stage after the first doubles the channels and, unless
    `halvings` says otherwise, halves height and width.

    Sources: He et al. 2015 (arXiv:1512.03385, section 4.2) for the plain network and its blocks,
    He et al. 2016 (arXiv:1603.05027) for pre-activation, Zagoruyko and Komodakis 2016
    (arXiv:1605.07146) for wide networks, Huang et al. 2016 (arXiv:1603.09382) for stochastic depth,
    Zhang et al. 2016 (arXiv:1608.02908) for residual networks of residual networks (RoR).

    Attributes:
        depth: number of layers with weights: 6n + 2 for n blocks per stage, 9n + 2 with
            bottlenecks; wide networks are counted as 6n + 4, including the projections of the
            stages.
        width: filters of the first convolution and of the first stage before widening.
        widen: factor of the number of filters of each stage (k of wide networks).
        order: original: the activation follows the addition; pre-activation: normalisation and
            activation precede each convolution, and the shortcut is an identity.
        bottleneck: blocks of 1 × 1, 3 × 3 and 1 × 1 convolutions, the last to four times as many
            channels, instead of two 3 × 3 convolutions.
        shortcut: shortcut where a block changes the shape: identity (option A: every second pixel,
            new channels are zero) or projection (option B: a 1 × 1 convolution).
        levels: levels of shortcuts: 1: around each block; 2: also around all stages; 3: also around
            each stage (RoR-3); 4 and 5: also around halves and quarters of a stage.
        survival: stochastic depth: probability that the last block is kept in a training step; 1:
            off.
        survival_schedule: linear: falls from 1 at the input to `survival` at the last block;
            constant: the same for every block.
        zero_init: initialise each block as its shortcut: the last normalisation of the residual
            starts at zero, with pre-activation the last convolution (Goyal et al. 2017,
            arXiv:1706.02677, section 5.1). Otherwise activations of a new network in the original
            order grow with the square root of its depth.
        stem: small: a 3 × 3 convolution; large: 7 × 7 with stride 2 and pooling with stride 2,
            which makes large images 16 times cheaper.
        padding: values beyond the edge of a patch in convolutions: zeros, or none. Without padding
            a patch shrinks from layer to layer and must contain the `footprint`; the features of a
            pixel do not depend on the position of the edge, and `outcrop map` computes what
            neighbouring patches share only once: a hundred times faster, with the same classes.
        halvings: number of the last two stages that halve height and width; fewer make the
            footprint smaller and the network more expensive.
        seen: height and width in pixels of the part of a patch that the network sees, so that one
            patch set serves several sizes. The labelled pixel, row and column `size // 2` of the
            patch, has index `seen // 2` in it. None: the whole patch.

    Raises:
        OutcropError: a number out of its range, or an unknown word.

    >>> ResidualNet(depth=20).blocks
    3
    >>> round(ResidualNet(depth=110, survival=0.5).expected_blocks, 2)  # of 54
    40.25
    """

    depth: int = 20
    width: int = 16
    widen: int = 1
    order: Literal["original", "pre-activation"] = "original"
    bottleneck: bool = False
    shortcut: Literal["identity", "projection"] = "identity"
    levels: int = 1
    survival: float = 1.0
    survival_schedule: Literal["linear", "constant"] = "linear"
    zero_init: bool = False
    stem: Literal["small", "large"] = "small"
    padding: Literal["zeros", "none"] = "zeros"
    halvings: int = 2
    seen: int | None = None

    def __post_init__(self) -> None:
        layers = 9 if self.bottleneck else 6
        rests = (2,) if self.bottleneck else (2, 4)
        if self.depth < layers + 2 or self.depth % layers not in rests:
            raise OutcropError(
                "network",
                f"depth {self.depth} is not {layers}n + 2"
                f"{'' if self.bottleneck else ' (or 6n + 4, as wide networks count)'}; "
                f"take {', '.join(str(layers * n + 2) for n in (1, 2, 3, 5, 7))}, ...",
            )
        check(
            self,
            "network",
            ("width", self.width >= 1, "1 or more; the paper has 16"),
            ("widen", self.widen >= 1, "1 or more"),
            ("levels", 1 <= self.levels <= 5, "1 to 5"),
            ("survival", 0 < self.survival <= 1, "above 0, at most 1"),
            ("halvings", 0 <= self.halvings <= 2, "0 to 2"),
            ("seen", self.seen is None or self.seen >= 1, "1 or more"),
        )
        parts = 2 ** max(0, self.levels - 3)
        if self.blocks < parts:
            raise OutcropError(
                "network",
                f"{self.levels} levels need {parts} blocks in each stage, depth {self.depth} has "
                f"{self.blocks}; take a larger depth or fewer levels",
            )
        if self.padding == "none" and self.seen is not None and self.seen < self.footprint:
            raise OutcropError(
                "network",
                f"{self.title} needs {self.footprint} × {self.footprint} pixels, and seen is "
                f"{self.seen}; see more, take fewer layers or halvings, or `padding='zeros'`",
            )

    @property
    def blocks(self) -> int:
        """Residual blocks in each stage."""
        return (self.depth - 2) // (9 if self.bottleneck else 6)

    @property
    def survivals(self) -> tuple[float, ...]:
        """The survival probability of every block, from input to output.

        Source: Huang et al. 2016 (arXiv:1603.09382), eq. 4.
        """
        blocks = 3 * self.blocks
        if self.survival_schedule == "constant":
            return (self.survival,) * blocks
        return tuple(1 - (k + 1) / blocks * (1 - self.survival) for k in range(blocks))

    @property
    def expected_blocks(self) -> float:
        """Mean number of blocks that a training step computes."""
        return sum(self.survivals)

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """Kernel and stride of every layer with a kernel above 1, from input to output."""
        stem = ((3, 1),) if self.stem == "small" else ((7, 2), (3, 2))
        inner = () if self.bottleneck else ((3, 1),)
        blocks = [
            ((3, self.stride_of(stage) if k == 0 else 1), *inner)
            for stage in range(3)
            for k in range(self.blocks)
        ]
        return (*stem, *chain.from_iterable(blocks))

    def stride_of(self, stage: int) -> int:
        """Stride of the first block of a stage, 0 to 2."""
        return 2 if stage > 2 - self.halvings else 1

    @property
    def stride(self) -> int:
        """Stride of the last stage in pixels of the image."""
        return prod(stride for _, stride in self.windows)

    @property
    def footprint(self) -> int:
        """Receptive field of a unit of the last stage, height and width in pixels, without padding.

        >>> [ResidualNet(depth=depth).footprint for depth in (8, 14, 20)]
        [25, 53, 81]
        >>> [ResidualNet(depth=8, halvings=halvings).footprint for halvings in (2, 1, 0)]
        [25, 17, 15]
        """
        seen, jump = 1, 1
        for kernel, stride in self.windows:
            seen, jump = seen + (kernel - 1) * jump, jump * stride
        return seen

    def units(self, size: int) -> int:
        """Rows or columns of the last stage for those of the image; below 1 if it is too small.

        >>> ResidualNet(depth=20).units(32), ResidualNet(depth=20, padding="none").units(112)
        (8, 8)
        """
        size = size if self.seen is None else self.seen
        for kernel, stride in self.windows:
            size = (size - 1 - (0 if self.padding == "zeros" else kernel - 1)) // stride + 1
        return size

    def check_size(self, size: tuple[int, int]) -> None:
        """Check that patches are large enough.

        Raises:
            OutcropError: patches are smaller than `seen`, or without padding than the footprint.
        """
        height, width = size
        if self.seen is not None and min(size) < self.seen:
            raise OutcropError(
                "network",
                f"is to see {self.seen} × {self.seen} pixels, more than patches of "
                f"{height} × {width} hold; cut larger ones, or see fewer",
            )
        if self.padding == "none" and min(size) < self.footprint:
            raise OutcropError(
                "network",
                f"{self.title} sees {self.footprint} × {self.footprint} pixels, "
                f"more than patches of {height} × {width} hold; cut larger ones, take fewer "
                "layers, or `padding='zeros'`",
            )

    @property
    def title(self) -> str:
        """The name of the network in tables, as in the papers.

        >>> ResidualNet(58, widen=4, order="pre-activation", levels=3, survival=0.5).title
        'RoR-3-WRN-58-4 + stochastic depth'
        """
        pre = "Pre-" if self.order == "pre-activation" else ""
        base = f"WRN-{self.depth}-{self.widen}" if self.widen > 1 else f"{pre}ResNet-{self.depth}"
        nested = f"RoR-{self.levels}-" if self.levels > 1 else ""
        inside = " unpadded" if self.padding == "none" else ""
        dropped = " + stochastic depth" if self.survival < 1 else ""
        return nested + base + inside + dropped

    @classmethod
    def named(cls, name: str) -> ResidualNet:
        """The network with a name in `NETWORKS`.

        Raises:
            OutcropError: no such name.

        >>> ResidualNet.named("resnet110-sd").survivals[-1]
        0.5
        """
        if name not in NETWORKS:
            near = difflib.get_close_matches(name, NETWORKS, 1)
            hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(NETWORKS)}"
            raise OutcropError("network", f"there is no '{name}'; {hint}")
        return NETWORKS[name]


View = Literal["pixel", "waves", "windows", "near"]
VIEWS: tuple[View, ...] = ("pixel", "waves", "windows", "near")


@dataclass(frozen=True)
class MultiScaleNet:
    """Small networks on several views of a patch, whose log-probabilities are averaged.

    Labelled sites have a few hundred patches, and it depends on the site whether the spectrum of a
    pixel or its surroundings determine the class. Each view learns from its own loss, so that a
    useless view does little harm. The views are

    - the labelled pixel: a perceptron; and another whose first layer are cosines, which extends
      smoothly beyond the training data, as a Gaussian kernel does (Rahimi and Recht 2007, Random
      features for large-scale kernel machines);
    - the pixel, and the means and the logarithms of the standard deviations of the windows of 3, 9
      and 25 pixels around it: a perceptron;
    - the 9 × 9 pixels around it: four 3 × 3 convolutions with a shortcut.

    Windows that are larger than the patch are left out. With more than 24 bands, windows see the
    first 24 principal components of the training side. There is no padding, so that `outcrop map`
    gives every pixel the result of its patch.

    Attributes:
        hidden: number of units of a hidden layer.
        members: number of copies of each perceptron, with different initial weights.
        views: parts of a patch that are used: pixel and waves (the labelled pixel), windows, near
            (the 9 × 9 pixels around it).

    Raises:
        OutcropError: a number out of its range; no view, or "near" alone.
    """

    hidden: int = 64
    members: int = 1
    views: tuple[View, ...] = VIEWS

    # Attributes of residual networks that this network does not have.
    survival: ClassVar[float] = 1.0
    survivals: ClassVar[tuple[float, ...]] = ()
    padding: ClassVar[str] = "none"
    stride: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check(
            self,
            "network",
            ("hidden", self.hidden >= 1, "1 or more"),
            ("members", self.members >= 1, "1 or more"),
        )
        if not set(self.views) - {"near"}:
            raise OutcropError(
                "`views`", f"needs one of {', '.join(VIEWS[:-1])}; near goes beside them"
            )
        # In a fixed order, so that equal views are equal networks.
        object.__setattr__(self, "views", tuple(one for one in VIEWS if one in self.views))

    @property
    def title(self) -> str:
        """What a table calls it."""
        some = "" if self.views == VIEWS else f" ({', '.join(self.views)})"
        return f"multi-scale network{some}"

    def check_size(self, size: tuple[int, int]) -> None:
        """Check that patches are large enough for at least one view."""
        if not {"pixel", "waves"} & set(self.views) and min(size) < 3:
            raise OutcropError(
                "`views`",
                f"{', '.join(self.views)} need patches of 3 pixels and more, and these have "
                f"{min(size)}; add pixel",
            )


@dataclass(frozen=True)
class UserNet:
    """A network that a user's function builds.

    The function takes the numbers of bands and classes and returns a `torch.nn.Module` that maps
    normalised float32 `N × bands × height × width` to logits `N × classes`. It is called whenever
    the network is built, also when a model is read. For safety a file never selects the function:
    the user passes it again to read a model.

    Attributes:
        factory: name of the function, "package.module:function".
        make: function; None: it is imported by its name.

    >>> from torch import nn
    >>> def small(bands, classes):
    ...     return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))
    >>> UserNet.of(small).title.endswith("small")
    True
    """

    factory: str
    make: Factory | None = None

    @classmethod
    def of(cls, make: Factory | nn.Module) -> UserNet:
        """The network of a function, or copies of a module."""
        from torch import nn

        function: Factory
        if isinstance(make, nn.Module):
            what, function = type(make).__qualname__, lambda bands, classes: deepcopy(make)
        else:
            what, function = make.__qualname__, make
        name = f"{make.__module__}:{what}"
        _named_here[name] = function
        return cls(name, function)

    @property
    def title(self) -> str:
        """What a table calls it."""
        return self.factory

    @property
    def function(self) -> Factory:
        """The function that builds the network.

        Raises:
            OutcropError: there is no function of this name.
        """
        return _named_here.setdefault(self.factory, self.make or _imported(self.factory))

    # Attributes of residual networks that these networks do not have.
    survival: ClassVar[float] = 1.0
    survivals: ClassVar[tuple[float, ...]] = ()
    padding: ClassVar[str] = "zeros"
    stride: ClassVar[int] = 1

    def check_size(self, size: tuple[int, int]) -> None:
        """Do nothing: the module is tested when it is built."""


def _wide(depth: int, widen: int, levels: int = 1, survival: float = 1.0) -> ResidualNet:
    return ResidualNet(
        depth,
        widen=widen,
        order="pre-activation",
        shortcut="projection",
        levels=levels,
        survival=survival,
    )


NETWORKS: Mapping[str, ResidualNet] = MappingProxyType(
    {f"resnet{depth}": ResidualNet(depth) for depth in (20, 32, 44, 56, 110, 602, 1202)}
    | {f"resnet{depth}-sd": ResidualNet(depth, survival=0.5) for depth in (110, 602, 1202)}
    | {
        "preresnet110": ResidualNet(110, order="pre-activation"),
        "preresnet164": ResidualNet(
            164, order="pre-activation", bottleneck=True, shortcut="projection"
        ),
        "wrn16-4": _wide(16, 4),
        "wrn28-10": _wide(28, 10),
        "wrn58-4": _wide(58, 4),
        "ror3-110": ResidualNet(110, levels=3),
        "ror3-110-sd": ResidualNet(110, levels=3, survival=0.5),
        "ror3-wrn58-4": _wide(58, 4, levels=3),
        "ror3-wrn58-4-sd": _wide(58, 4, levels=3, survival=0.5),
    }
)


Network = ResidualNet | MultiScaleNet | UserNet
"""A network as plain data: its `build` makes it with new weights."""

MULTI_SCALE = "multi-scale"


def network_named(name: str) -> Network:
    """The network with a name: residual, multi-scale, or package.module:function.

    Raises:
        OutcropError: no such name.

    >>> network_named("resnet20").title, network_named("multi-scale").title
    ('ResNet-20', 'multi-scale network')
    """
    if name == MULTI_SCALE:
        return MultiScaleNet()
    if ":" in name:
        _named_here[name] = _imported(name)
        return UserNet(name, _named_here[name])
    return ResidualNet.named(name)


def network_of(given: Network | Factory | nn.Module) -> Network:
    """The description of a network, function or module."""
    if isinstance(given, ResidualNet | MultiScaleNet | UserNet):
        return given
    return UserNet.of(given)


def network_json(network: Network) -> dict[str, Any]:
    """Plain data for `network_of_json`."""
    if isinstance(network, ResidualNet):
        return asdict(network)
    if isinstance(network, MultiScaleNet):
        return {MULTI_SCALE: asdict(network)}
    return {"factory": network.factory}


def network_of_json(content: Mapping[str, Any]) -> Network:
    """The network from the result of `network_json`.

    Raises:
        OutcropError: a user's network whose function was not passed in this process.
        TypeError, ValueError: the content is something else.
    """
    if "factory" in content:
        name = typed(str, content["factory"], "factory")
        if name not in _named_here:
            raise OutcropError(
                name,
                "made the network of this model, and its code is run when the model is read; pass "
                f"it again: `outcrop.UserNet.of({name})`",
            )
        return UserNet(name, _named_here[name])
    if MULTI_SCALE in content:
        return typed(MultiScaleNet, content[MULTI_SCALE], "network")
    return typed(ResidualNet, content, "network")


# Only functions that the user has named in this process are called, never those of a file.
_named_here: dict[str, Factory] = {}


def _imported(name: str) -> Factory:
    """The function named "package.module:function"; the working folder is searched too."""
    module, _, function = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = getattr(import_module(module), function)
    except OutcropError:
        raise
    except (ImportError, AttributeError, ValueError) as error:
        raise OutcropError(
            "`network`", f"{name} cannot be imported ({error}); write package.module:function"
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise OutcropError("`network`", f"{name} is no function; name one")
    return found
