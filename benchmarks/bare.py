"""The step of a network without any loop around it."""

from __future__ import annotations

import time

import torch
from torch.nn import functional as F

from outcrop.models.residual import ResidualNetwork


class Stepper:
    """Forward, backward and optimiser on one batch that is there already."""

    def __init__(
        self,
        module: ResidualNetwork,
        batch: int,
        device: torch.device,
        precision: str,
        bands: int = 3,
        size: int = 32,
    ) -> None:
        self.module, self.device, self.half = module, device, precision == "bf16-mixed"
        self.optimiser = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, fused=True)
        # As the engine does: the fused optimiser wants momentum for all parameters or none.
        for parameter in module.parameters():
            self.optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        images = torch.randn(batch, bands, size, size, device=device)
        self.images = images.to(memory_format=torch.channels_last)
        classes = module.linear.out_features
        self.labels = torch.arange(batch, device=device) % classes
        for _ in range(3):
            self.step()

    def step(self, kept: tuple[bool, ...] | None = None) -> float:
        """Seconds of one step."""
        started = time.perf_counter()
        kept = (True,) * len(self.module.blocks) if kept is None else kept
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            loss = F.cross_entropy(self.module(self.images, kept), self.labels)
        loss.backward()
        self.optimiser.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - started
