"""The published networks in plain PyTorch, from the papers; no code is shared with the library."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Shrink(nn.Module):
    """Option A of He et al. 2015: every `stride`-th pixel, new channels are zero."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.pad = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))


class Block(nn.Module):
    """He et al. 2015: convolve, normalise, activate, twice, and a shortcut around it."""

    def __init__(self, inputs: int, outputs: int, stride: int, survival: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 else Shrink(inputs, outputs, stride)
        self.survival = survival

    def forward(self, x: Tensor, outer: Tensor | None = None) -> Tensor:
        y = self.shortcut(x)
        # Huang et al. 2016: one draw for the whole batch, and the expected residual afterwards.
        if not self.training or torch.rand(1).item() < self.survival:
            out = F.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            y = y + (out if self.training else self.survival * out)
        if outer is not None:
            y = y + outer
        return F.relu(y)


class WideBlock(nn.Module):
    """Zagoruyko and Komodakis 2016: normalise and activate before each convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.projection = (
            None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (x if self.projection is None else self.projection(active))


class ResNet(nn.Module):
    """ResNet-(6n + 2); stochastic depth; RoR-3 with outer shortcuts that project (Zhang et al.)."""

    def __init__(
        self,
        depth: int,
        bands: int = 3,
        classes: int = 10,
        survival: float = 1.0,
        ror: bool = False,
    ) -> None:
        super().__init__()
        n, self.ror = (depth - 2) // 6, ror
        self.conv = nn.Conv2d(bands, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.stages = nn.ModuleList()
        inputs, number = 16, 0
        for outputs in (16, 32, 64):
            stage = nn.ModuleList()
            for k in range(n):
                number += 1
                stride = 2 if k == 0 and outputs > 16 else 1
                p = 1 - number / (3 * n) * (1 - survival)
                stage.append(Block(inputs, outputs, stride, p))
                inputs = outputs
            self.stages.append(stage)
        if ror:
            self.around = nn.ModuleList([nn.Identity(), project(16, 32, 2), project(32, 64, 2)])
            self.around_all = project(16, 64, 4)
        self.fc = nn.Linear(64, classes)
        self.apply(begin)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv(x)))
        around_all = self.around_all(x) if self.ror else None
        for k, stage in enumerate(self.stages):
            outer = self.around[k](x) if self.ror else None
            if outer is not None and k == 2:
                outer = outer + around_all
            for block in stage[:-1]:
                x = block(x)
            x = stage[-1](x, outer)
        return self.fc(x.mean((2, 3)))


class WideResNet(nn.Module):
    """WRN-(6n + 4)-k."""

    def __init__(self, depth: int, widen: int, bands: int = 3, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(bands, 16, 3, 1, 1, bias=False)]
        inputs = 16
        for outputs in (16 * widen, 32 * widen, 64 * widen):
            for k in range((depth - 4) // 6):
                stride = 2 if k == 0 and outputs > 16 * widen else 1
                layers.append(WideBlock(inputs, outputs, stride))
                inputs = outputs
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(inputs), nn.ReLU())
        self.fc = nn.Linear(inputs, classes)
        self.apply(begin)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(x).mean((2, 3)))


def project(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def begin(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)


NETWORKS = {
    "resnet20": lambda: ResNet(20),
    "resnet32": lambda: ResNet(32),
    "resnet56": lambda: ResNet(56),
    "resnet110": lambda: ResNet(110),
    "resnet110-sd": lambda: ResNet(110, survival=0.5),
    "ror3-110": lambda: ResNet(110, ror=True),
    "ror3-110-sd": lambda: ResNet(110, survival=0.5, ror=True),
    "wrn28-10": lambda: WideResNet(28, 10),
}
