"""
A patch set with 98 %: what remains?
====================================

Somebody hands over a file of labelled patches and a score: 98 %. There are no coordinates, and the
score is from a random split. Can you expect 98 % on new ground?

The steps are: repeat the score, audit the patches, look at the evidence, find where the patches
were cut, split by space, and score again.

**The data are synthetic.** The patches are cut from ``oc.make_coast``, with two faults that are
common in real files: patches overlap, and some patches come twice, mirrored.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import rasterio

import outcrop as oc

plt.rcParams["savefig.bbox"] = "tight"
pd.set_option("display.max_colwidth", None)  # the sentences of an audit are shown whole
work = tempfile.TemporaryDirectory()
folder = Path(work.name)

# %%
# The file that was handed over
# -----------------------------
#
# You would start with the file. This block makes it: 840 patches of 17 x 17 pixels around labelled
# pixels, 40 of them once more as mirror images, in random order and without positions.

coast = oc.make_coast(folder / "coast", images=1, size=400, seed=7)
cut = oc.cut(coast.scenes, coast.labels, "class", 17, per_class=140)
random = np.random.default_rng(0)
twice = random.choice(len(cut), 40, replace=False)
images = np.concatenate([cut.images, cut.images[twice][..., ::-1]])
labels = np.concatenate([cut.labels, cut.labels[twice]])
order = random.permutation(len(labels))
names = {"classes": cut.classes, "bands": cut.bands}
np.savez(folder / "patches.npz", images=images[order], labels=labels[order], **names)

# %%
# Step 1: repeat the score
# ------------------------
#
# A support vector machine on simple statistics of a patch, in three random folds: each patch is
# predicted once, by a model that was trained without it.

patches = oc.open_patches(folder / "patches.npz")
print(patches)


def cross_validate(patches, folds, name):
    """Scores of all held-out patches together."""
    predicted = np.zeros(len(patches), int)
    for k, split in enumerate(folds.splits):
        model = oc.Baseline("SVM", "patch statistics")
        run = oc.train(patches, split, folder / f"{name}-{k}", model)
        predicted[run.predictions.index] = run.predictions.probabilities.argmax(1)
    held_out = folds.index
    truth, groups = patches.labels[held_out], folds.groups[held_out]
    return oc.score(truth, predicted[held_out], patches.classes, groups)


random_folds = oc.RandomSplit(n_splits=3).assign_all(patches)
claimed = cross_validate(patches, random_folds, "random")
print(claimed)

# %%
# The claim is confirmed, for this split. Do training and validation patches show the same ground?
#
# Step 2: audit
# -------------
#
# ``oc.audit`` runs all checks on the patches and the split. "critical" means that the score cannot
# be believed. The column ``remedy`` says what to do.

audit = oc.audit(patches, random_folds.splits[0])
print(audit.summary)
audit.to_frame()[["check", "severity", "title", "remedy"]]

# %%
# Each finding names patches to look at. The figure shows two pairs of copies and three pairs of
# overlapping patches: red, green and blue bands, stretched in contrast.

pairs = []
for check, wanted in (("duplicates", 2), ("overlaps", 3)):
    finding = next(one for one in audit.findings if one.check == check)
    pairs += [(check, group[:2]) for group in finding.groups[:wanted]]
side = np.array(["training", "validation"])[random_folds.splits[0].sides]
figure, axes = plt.subplots(2, 5, figsize=(10, 4.6))
for (check, pair), column in zip(pairs, axes.T, strict=True):
    rgb = patches.take(np.array(pair))[:, [2, 1, 0]].transpose(0, 2, 3, 1)
    low, high = np.nanpercentile(rgb, (1, 99))
    for axis, picture, patch in zip(column, (rgb - low) / (high - low), pair, strict=True):
        axis.imshow(np.clip(np.nan_to_num(picture), 0, 1))
        axis.set(title=f"{check}, {patch}", xlabel=side[patch], xticks=[], yticks=[])

# %%
# Each column is a pair; below each patch stands its side of the split. Left: mirror images.
# Right: the same ground, shifted by a pixel or a few. Under the random split the model is asked
# about ground that it has seen.
#
# Step 3: find the origin
# -----------------------
#
# If the scene is at hand, ``oc.locate`` finds each patch in it, also mirrored or rotated
# (``flips=True``). Copies are patches that were found twice at one place.

located = oc.locate(patches, coast.scenes, flips=True)
print(f"{located.found.sum()} of {len(patches)} found, {located.duplicates.sum()} are copies")
print("not found:", patches.to_frame()["class"][~located.found].value_counts().to_dict())
ready = oc.with_positions(patches, located)[~located.duplicates[located.found]]

# %%
# Most patches that were not found show water or rice fields, which have little structure.
#
# Step 4: split by space
# ----------------------
#
# The copies are gone. Now whole blocks of 500 m are held out, and training patches that are closer
# than one patch width (170 m) to a held-out patch are left out.

spatial_folds = oc.BlockSplit(block=500, buffer=170, n_splits=3).assign_all(ready)
with rasterio.open(coast.scenes[0]) as raster:
    scene = np.clip(raster.read([3, 2, 1]).transpose(1, 2, 0) / 2500, 0, 1)
    box = np.array(raster.bounds)[[0, 2, 1, 3]] / 1000
figure, axes = plt.subplots(1, 2, figsize=(11, 5.2), sharey=True)
shuffled = oc.RandomSplit(n_splits=3).assign_all(ready)
for axis, folds, title in zip(axes, (shuffled, spatial_folds), ("random", "spatial"), strict=True):
    axis.imshow(scene, extent=box)
    split = folds.splits[0]
    for index, name in ((split.train, "training"), (split.validation, "validation")):
        at = ready.positions[index]
        axis.scatter(at.x / 1000, at.y / 1000, 9, label=name, edgecolor="white", linewidth=0.2)
    sizes = f"{len(split.train)} train, {len(split.validation)} validate"
    axis.set(title=f"{title} split, first fold: {sizes}", xlabel="easting, km")
    axis.ticklabel_format(useOffset=False)
axes[0].set_ylabel("northing, km")
axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))

# %%
# Left: training and validation patches of a polygon lie side by side. Right: a validation patch
# has no training patch beside it.
#
# Step 5: score again
# -------------------

kept = cross_validate(ready, spatial_folds, "spatial")
print(f"random split:  {claimed.overall}\nspatial split: {kept.overall}")

# %%
figure, axis = plt.subplots(figsize=(8, 3.6))
height = np.arange(len(patches.classes) + 1)
for scores, shift, name in ((claimed, 0.15, "random split"), (kept, -0.15, "spatial split")):
    values = [*scores.recall, scores.overall]
    middle = np.array([one.value for one in values])
    ends = [middle - [one.low for one in values], [one.high for one in values] - middle]
    axis.errorbar(100 * middle, height + shift, xerr=100 * np.array(ends), fmt="o", label=name)
axis.set_yticks(height, [*patches.classes, "overall accuracy"])
axis.set(xlabel="recall of each class and overall accuracy, %, with 95 % interval")
axis.legend(loc="upper left", bbox_to_anchor=(1, 1))

# %%
# What remains of the claim is the orange line at the top. Its interval is wider, because under the
# spatial split whole blocks are independent, and not single patches. The recall of each class shows
# where labels on more ground would help.
#
# Step 6: audit again
# -------------------
#
# Two objections are left. The spatial folds train on fewer patches, because of the buffer. And is
# the buffer large enough? With positions the audit answers both. Its finding ``leak-gap`` compares
# random and spatial splits with equally large trainings. ``distance`` and ``autocorrelation`` say
# how far pixels resemble each other, and which block and buffer this needs.

again = oc.audit(ready, spatial_folds.splits[0])
print(again.summary)
again.to_frame()[["check", "severity", "title", "remedy"]]

# %%
# Nothing is critical any more. The leak gap remains with equally large trainings. The warning about
# distance says that the spatial score may still be too high here: pixels resemble each other
# farther than the buffer reaches. Report the spatial score with its interval, block and buffer.

work.cleanup()
