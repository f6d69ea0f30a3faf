"""The published recipe in plain PyTorch: eager, float32, per-image augmentation, a DataLoader.

What one would write from the papers (He et al. 2015, section 4.2), and what the library has to
beat. It shares no code with the library.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.pad = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.stride > 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(out + x)


class ResNet(nn.Module):
    def __init__(self, depth: int, bands: int = 3, classes: int = 10) -> None:
        super().__init__()
        n = (depth - 2) // 6
        layers: list[nn.Module] = [
            nn.Conv2d(bands, 16, 3, 1, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
        ]
        inputs = 16
        for outputs in (16, 32, 64):
            for _ in range(n):
                layers.append(Block(inputs, outputs, 1 if inputs == outputs else 2))
                inputs = outputs
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(x))


class Pictures(Dataset[tuple[Tensor, int]]):
    """uint8 pictures `N × bands × height × width`, padded, cropped and mirrored one by one."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, augment: bool) -> None:
        self.images, self.labels, self.augment = images, labels, augment
        self.mean = torch.tensor(images.mean((0, 2, 3)) / 255, dtype=torch.float32).view(-1, 1, 1)
        self.std = torch.tensor(images.std((0, 2, 3)) / 255, dtype=torch.float32).view(-1, 1, 1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.images[index]).float() / 255
        image = (image - self.mean) / self.std
        if self.augment:
            height, width = image.shape[1:]
            top, left = torch.randint(9, (2,)).tolist()
            image = F.pad(image, (4, 4, 4, 4))[:, top : top + height, left : left + width]
            if torch.rand(1).item() < 0.5:
                image = image.flip(2)
        return image, int(self.labels[index])


@dataclass
class Result:
    """Images per second of each epoch's training, and the accuracy on the test side at its end."""

    images_per_second: list[float]
    accuracy: list[float]


def train(
    training: Pictures,
    testing: Pictures | None,
    depth: int,
    epochs: int,
    batch: int = 128,
    workers: int = 2,
    device: str = "cpu",
    seed: int = 0,
) -> Result:
    torch.manual_seed(seed)
    model = ResNet(depth, training.images.shape[1]).to(device)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [epochs // 2, epochs * 3 // 4])
    loader = DataLoader(
        training, batch, shuffle=True, num_workers=workers, pin_memory=device != "cpu"
    )
    result = Result([], [])
    for _ in range(epochs):
        model.train()
        started = time.perf_counter()
        for images, labels in loader:
            loss = F.cross_entropy(model(images.to(device)), labels.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
        result.images_per_second.append(len(training) / (time.perf_counter() - started))
        schedule.step()
        if testing is not None:
            result.accuracy.append(judge(model, testing, device))
    return result


@torch.inference_mode()
def judge(model: nn.Module, testing: Pictures, device: str) -> float:
    model.eval()
    loader = DataLoader(testing, 512)
    right = [(model(x.to(device)).argmax(1).cpu() == y).sum().item() for x, y in loader]
    return sum(right) / len(testing)
