"""The published recipes in plain PyTorch: eager, float32, per-image augmentation, a DataLoader.

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


@dataclass
class Schedule:
    """The numbers of a published recipe.

    Attributes:
        milestones: shares of the epochs after which the rate falls to a tenth.
        warm_up: epochs at the beginning with `warm_up_rate`.
    """

    epochs: int
    batch: int = 128
    rate: float = 0.1
    milestones: tuple[float, ...] = (0.5, 0.75)
    warm_up: int = 0
    warm_up_rate: float = 0.01
    decay: float = 1e-4
    nesterov: bool = False


def train(
    model: nn.Module,
    training: Pictures,
    testing: Pictures | None,
    schedule: Schedule,
    workers: int = 2,
    device: str = "cpu",
) -> Result:
    model = model.to(device)
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=schedule.rate,
        momentum=0.9,
        weight_decay=schedule.decay,
        nesterov=schedule.nesterov,
    )
    loader = DataLoader(
        training, schedule.batch, shuffle=True, num_workers=workers, pin_memory=device != "cpu"
    )
    result = Result([], [])
    for epoch in range(schedule.epochs):
        rate = schedule.rate * 0.1 ** sum(
            epoch >= share * schedule.epochs for share in schedule.milestones
        )
        for group in optimiser.param_groups:
            group["lr"] = schedule.warm_up_rate if epoch < schedule.warm_up else rate
        model.train()
        started = time.perf_counter()
        for images, labels in loader:
            loss = F.cross_entropy(model(images.to(device)), labels.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
        result.images_per_second.append(len(training) / (time.perf_counter() - started))
        if testing is not None:
            result.accuracy.append(judge(model, testing, device))
    return result


@torch.inference_mode()
def judge(model: nn.Module, testing: Pictures, device: str) -> float:
    model.eval()
    loader = DataLoader(testing, 512)
    right = [(model(x.to(device)).argmax(1).cpu() == y).sum().item() for x, y in loader]
    return sum(right) / len(testing)
