"""
Your own network: train, interrupt, resume, export
==================================================

You write networks in PyTorch. You want a spatial split and intervals for your own model. This page
trains one network with ``outcrop``, one in a plain PyTorch loop, and a wide residual
network with stochastic depth. Then it interrupts a training, resumes it, and exports the model.

The data are synthetic (``oc.make_coast``) and the trainings are short. The scores rank nothing.
"""

import signal
import tempfile
from itertools import count
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

import outcrop as oc

plt.rcParams["savefig.bbox"] = "tight"
work = tempfile.TemporaryDirectory()
folder = Path(work.name)
coast = oc.make_coast(folder / "coast", images=2, size=320, seed=2)

# %%
# Step 1: patches on disk and a spatial split
# -------------------------------------------
#
# ``output`` writes the patch set as Zarr. Its images stay on disk and are read when they are
# needed. The split holds out blocks of 500 m, and a patch width (130 m) lies between the sides.

path = folder / "coast.zarr"
oc.cut(coast.scenes, coast.labels, "class", 13, stride=2, per_class=150, output=path)
patches = oc.open_patches(path)
split = oc.BlockSplit(block=500, buffer=130, n_splits=3).assign(patches)
print(patches)
print(f"{len(split.train)} train, {len(split.validation)} validate, {len(split.buffer)} left out")

# %%
names = np.array(["training", "validation", "test", "buffer"])
ground = patches.to_geodataframe().assign(side=names[split.sides])
where = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
axis = ground.plot("side", categorical=True, cmap="Dark2", legend=True, legend_kwds=where)
axis.ticklabel_format(style="plain", useOffset=False)
axis.set(xlabel="easting, m", ylabel="northing, m", title="patches on the ground")

# %%
# Validation patches lie in blocks of their own. Patches of the buffer are not used.
#
# Step 2: train your own network with outcrop
# -------------------------------------------
#
# A network of your own is a function from the numbers of bands and of classes to a module. The
# module takes ``N x bands x height x width`` and gives logits. ``outcrop`` normalises the bands,
# augments, trains, writes checkpoints and TensorBoard events, and judges the validation side. On
# the command line the same function is ``--network mypackage.nets:small_network``.


def small_network(bands, classes):
    """Three convolutions and a mean over the patch."""
    return nn.Sequential(
        nn.Conv2d(bands, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes),
    )  # fmt: skip


recipe = oc.Recipe(epochs=12, batch=32, seed=0)
own = oc.train(patches, split, folder / "own", small_network, recipe, graph=False)
print(own.scores)

# %%
# Step 3: a plain PyTorch loop
# ----------------------------
#
# A ``PatchSet`` also works without the trainer. ``take`` reads the images of some indices. The
# loader deals indices, and its ``collate_fn`` reads a whole batch at once, so that Zarr reads each
# chunk once a batch. Mean and standard deviation of the bands are those of the training side alone.

seen = patches.take(split.train)
mean, std = (f(seen, (0, 2, 3))[:, None, None] for f in (np.nanmean, np.nanstd))


def read(rows):
    """Read a batch: normalised images, pixels without data as the mean, and labels."""
    images = np.nan_to_num((patches.take(np.array(rows)) - mean) / std)
    return torch.tensor(images, dtype=torch.float32), torch.tensor(patches.labels[rows])


torch.manual_seed(0)
loader = DataLoader(split.train, 32, shuffle=True, drop_last=True, collate_fn=read)
model = small_network(len(patches.bands), len(patches.classes))
optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
for _ in range(12):
    for images, labels in loader:
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()

model.eval()
images, labels = read(split.validation)
with torch.inference_mode():
    predicted = model(images).argmax(1)
blocks = split.groups[split.validation]
plain = oc.score(labels.numpy(), predicted.numpy(), patches.classes, blocks)
print(plain)

# %%
# As in a run, the intervals come from whole blocks: patches of one block are not independent.
#
# Step 4: a wide network with stochastic depth
# --------------------------------------------
#
# ``oc.ResidualNet`` describes a residual network. ``widen`` multiplies the filters.
# With ``survival=0.8`` the last block is dropped in 20 % of the training steps, earlier blocks
# less often. ``oc.cost_of`` says beforehand what that costs.

wide = oc.ResidualNet(depth=14, width=8, widen=2, survival=0.8)
cost = oc.cost_of(wide, bands=4, size=patches.size, classes=len(patches.classes))
print(f"{cost.parameters:,} parameters, {cost.multiply_adds:,} multiply-adds a patch")
print(f"{cost.expected_blocks:.1f} of {cost.blocks} blocks in a training step on average")
deep = oc.train(patches, split, folder / "wide", wide, recipe, graph=False)

# %%
figure, axis = plt.subplots(figsize=(7, 3.6))
for run, name, colour in ((own, "own network", "#0072b2"), (deep, "wide network", "#d55e00")):
    for side, line in (("train", "--"), ("validation", "-")):
        loss = [getattr(epoch, side).loss for epoch in run.metrics]
        axis.plot(range(1, len(loss) + 1), loss, line, color=colour, label=f"{name}, {side}")
axis.set(xlabel="epoch", ylabel="cross-entropy, nats", yscale="log")
axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
print(f"own {own.scores.overall}, plain loop {plain.overall}, wide {deep.scores.overall}")

# %%
# The training loss falls and the validation loss does not follow: the validation blocks hold ground
# of their own. ``outcrop`` keeps the weights of the last epoch. Choosing the best epoch by the
# validation side would make its score too good. The intervals overlap, so this page does not say
# which network is better; ``oc.compare_runs`` tests it.
#
# Several devices
# ---------------
#
# These commands were **not run for this page**, which is built on a CPU.
#
# .. code-block:: bash
#
#    outcrop train coast.zarr --split split.json --devices 4 -o runs/four
#    outcrop train coast.zarr --split split.json --devices 4 --strategy fsdp -o runs/sharded
#    torchrun --nnodes 2 --nproc-per-node 4 -m outcrop train coast.zarr \
#        --split split.json -o runs/two
#
# Step 5: interrupt and resume
# ----------------------------
#
# Press Ctrl-C, or let the scheduler send SIGTERM: ``outcrop`` finishes the step, writes a
# checkpoint and stops. Here a hook presses Ctrl-C at the 70th forward pass.

calls = count(1)


def press_ctrl_c(module, inputs, output):
    """Send the signal of Ctrl-C once, in the middle of an epoch."""
    if isinstance(module, nn.Linear) and next(calls) == 70:
        signal.raise_signal(signal.SIGINT)


hook = nn.modules.module.register_module_forward_hook(press_ctrl_c)
try:
    oc.train(patches, split, folder / "stopped", small_network, recipe, graph=False)
except KeyboardInterrupt:
    print("stopped:", *sorted(path.name for path in (folder / "stopped").iterdir()))
hook.remove()
again = oc.train(patches, split, folder / "stopped", small_network, recipe, True, graph=False)
weights, others = (run.classifier.module.state_dict() for run in (own, again))
print("same weights as without the stop:", all(torch.equal(weights[k], others[k]) for k in weights))

# %%
# ``True`` is ``resume``. The weights are equal bit by bit, on one machine with the same number of
# threads. On the command line, repeat the command with ``--resume``.
#
# Step 6: export
# --------------
#
# The file takes raw pixels; normalisation and calibration are inside. It is written only if its
# logits agree with those of the network. ``.onnx`` gives ONNX (needs the extra ``onnx``).

oc.export(own, folder / "own.pt2")
program = torch.export.load(folder / "own.pt2").module()
raw = patches.take(split.validation)
exported = program(torch.tensor(raw, dtype=torch.float32))["probabilities"].detach().numpy()
difference = np.abs(exported - own.model.predict_proba(raw)).max()
print(f"{len(raw)} patches: largest difference of a probability {difference:.1g}")
work.cleanup()
