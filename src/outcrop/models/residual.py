"""The residual network of He et al. 2015 (arXiv:1512.03385), section 4.2, in torch."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from outcrop.models.architectures import ResidualNet


class PaddedIdentity(nn.Module):
    """Option A of the paper: every `stride`-th pixel, and new channels filled with zeros.

    The zeros go half before and half after the old channels, as in the published weights.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        """`N × inputs × H × W` to `N × outputs × ⌈H / stride⌉ × ⌈W / stride⌉`."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions with batch normalisation, and a shortcut around them (figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, outputs, stride)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv3x3(outputs, outputs)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else PaddedIdentity(inputs, outputs, stride)
        )

    def residual(self, x: Tensor) -> Tensor:
        """What the block adds to its shortcut."""
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return self.norm2(self.conv2(x))

    def forward(self, x: Tensor) -> Tensor:
        """`N × inputs × H × W` to `N × outputs × ⌈H / stride⌉ × ⌈W / stride⌉`."""
        return F.relu(self.residual(x) + self.shortcut(x), inplace=True)


class ResidualNetwork(nn.Module):
    """Three stages of residual blocks, global average pooling, and one linear layer.

    Takes float32 `N × bands × height × width` of any size from 4 × 4 up and gives logits,
    `N × classes`. Convolutions start from He's normal initialisation (arXiv:1502.01852, eq. 10).
    """

    def __init__(self, description: ResidualNet, bands: int, classes: int) -> None:
        super().__init__()
        widths = [description.width * 2**stage for stage in range(3)]
        self.conv = _conv3x3(bands, widths[0])
        self.norm = nn.BatchNorm2d(widths[0])
        self.stages = nn.Sequential(
            _stage(widths[0], widths[0], 1, description.blocks),
            _stage(widths[0], widths[1], 2, description.blocks),
            _stage(widths[1], widths[2], 2, description.blocks),
        )
        self.linear = nn.Linear(widths[2], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        # Convolutions are faster so, on CPUs as on GPUs; inputs of either order are welcome.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Logits; the softmax is outside."""
        x = F.relu(self.norm(self.conv(x)), inplace=True)
        x = self.stages(x)
        return self.linear(torch.mean(x, dim=(2, 3)))


def _stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    first = ResidualBlock(inputs, outputs, stride)
    others = [ResidualBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
    named = {f"block{k}": block for k, block in enumerate([first, *others], start=1)}
    return nn.Sequential(OrderedDict(named))


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
