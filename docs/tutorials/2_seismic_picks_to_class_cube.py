"""
From a SEG-Y cube and picks to a class cube
===========================================

You have a seismic cube in SEG-Y and a table of picks: places where you say what the texture is.
You want the texture at every sample.

The second half answers another question: somebody hands over cut patches, and nobody knows where
they were cut. ``outcrop`` finds the places again in the cube, so that a spatial split is possible.

**The data are synthetic.** ``oc.make_cube`` makes layers, faults, slides and a salt dome, convolves
them with a wavelet and adds noise. The scores on this page say nothing about a real survey.
"""

import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import segyio
from matplotlib.colors import ListedColormap

import outcrop as oc

plt.rcParams["savefig.bbox"] = "tight"
work = tempfile.TemporaryDirectory()
folder = Path(work.name)
cube = oc.make_cube(folder / "cube", shape=(72, 144, 160), seed=0, noise_db=25)
amplitude = np.load(cube.volume)
names = json.loads(cube.names.read_text())
classes = sorted(names)  # the order of a patch set
code = np.array([0] + [1 + classes.index(name) for name in names])
truth = code[np.load(cube.classes)]  # 0: no class, near a contact

# %%
# Step 1: the survey and the picks
# --------------------------------
#
# With a survey of your own, start from the two files. This block writes them: a SEG-Y file with
# inline and crossline numbers in bytes 189 and 193, a sample every 4 ms, and a table with one pick
# a row. SEG-Y needs the extra: ``pip install 'outcrop[seismic]'``.
#
# The picks lie on every sixth inline, as an interpreter works, and 150 of each class are drawn.

segyio.tools.from_array3D(str(folder / "survey.sgy"), amplitude, iline=189, xline=193, dt=4000)
inside = np.zeros_like(truth, bool)
inside[3::6, 16:-16, 16:-16] = True
random = np.random.default_rng(0)
voxels = [
    random.choice(np.argwhere(inside & (truth == k + 1)), 150, replace=False)
    for k in range(len(classes))
]
inline, crossline, sample = np.concatenate(voxels).T
picks = pd.DataFrame(
    {
        "inline": inline + 1,
        "crossline": crossline + 1,
        "time": 4 * sample,  # milliseconds
        "label": np.repeat(classes, 150),
    }
)
picks.to_csv(folder / "picks.csv", index=False)
survey = oc.open_volume(folder / "survey.sgy")
print(survey.axes, survey.shape)
picks.sample(5, random_state=0)

# %%
line = 39
colours = ["#0072b2", "#e69f00", "#009e73", "#cc79a7"]


def section(axis, image, title, **options):
    """Show an inline section: crosslines to the right, time downwards."""
    shape = [0.5, image.shape[0] + 0.5, 4 * image.shape[1] - 2, -2]
    axis.set(title=title, xlabel="crossline", ylabel="time, ms")
    return axis.imshow(image.T, extent=shape, aspect="auto", interpolation="nearest", **options)


figure, axis = plt.subplots(figsize=(8, 4.6))
grey = section(axis, amplitude[line], f"inline {line + 1}", cmap="gray", vmin=-3, vmax=3)
figure.colorbar(grey, label="amplitude")
for name, colour in zip(classes, colours, strict=True):
    here = picks[(picks.inline == line + 1) & (picks.label == name)]
    axis.scatter(here.crossline, here.time, 30, colour, edgecolor="white", label=name)
axis.legend(title="picks", loc="upper left", bbox_to_anchor=(1.2, 1))

# %%
# The picks of a class lie in its body. Do not pick at the border of two bodies.
#
# Step 2: cut patches and split by slabs
# --------------------------------------
#
# A patch is the square of 33 x 33 samples of an inline section around a pick. The cube is divided
# into slabs of six inlines, each with one picked inline. Each fold holds out every third slab.
# A pick six inlines away still resembles a held-out one; in a larger cube, take thicker slabs.

patches = oc.cut_at_positions(folder / "survey.sgy", folder / "picks.csv", size=33, axis=0)
folds = oc.SlabSplit(axis=0, thickness=6, n_splits=3, buffer=3).assign_all(patches)
print(patches, folds.kind, sep="\n")

# %%
# Step 3: train a network that maps densely
# -----------------------------------------
#
# Without padding a network computes overlapping patches once, and mapping is much faster. A network
# of eight layers without padding needs patches of at least 25 x 25.

network = oc.ResidualNet(depth=8, width=8, padding="none")
recipe = oc.Recipe(epochs=20)
run = oc.train(patches, folds.splits[0], folder / "run", network, recipe, graph=False)
print("held-out slabs:", run.scores)
run.scores.to_frame()[["patches", "recall", "recall_low", "recall_high"]].round(2)

# %%
# Step 4: map the cube
# --------------------
#
# The class cube has the shape and the trace headers of the survey: 0 is no data, 1 the first class.
# Any program that reads SEG-Y can show it beside the amplitudes.

oc.map_volume(run, folder / "survey.sgy", 0, folder / "classes.sgy", folder / "confidence.sgy")
with segyio.open(folder / "classes.sgy") as file:
    mapped = segyio.tools.cube(file)
with segyio.open(folder / "confidence.sgy") as file:
    confidence = segyio.tools.cube(file)

figure, axes = plt.subplots(1, 3, figsize=(13, 4))
table = {"cmap": ListedColormap(["white", *colours]), "vmin": -0.5, "vmax": 4.5}
section(axes[0], truth[line], "truth (white: no class)", **table)
shown = section(axes[1], mapped[line], "class cube", **table)
bar = figure.colorbar(shown, ax=axes[:2], ticks=range(1, 5), orientation="horizontal", pad=0.18)
bar.ax.set_xticklabels(classes)
sure = section(axes[2], confidence[line], "confidence", vmin=25, vmax=100)
figure.colorbar(sure, ax=axes[2], label="probability, %", orientation="horizontal", pad=0.18)
right = (mapped == truth)[truth > 0].mean()
print(f"{100 * right:.0f} % of all samples with a known class are right")

# %%
# Salt and slides are found, with uneven borders. Faulted and chaotic ground are partly confused,
# and confidence is low there: look there first when you correct the cube.
#
# Step 5: patches whose origin was lost
# -------------------------------------
#
# Patches were cut from this cube, then contrast and order were changed, and values were rounded to
# 0 to 255. ``oc.damage`` does this, and returns what it did.

cut = oc.cut_volume(cube.volume, cube.classes, axis=0, size=33, per_class=100, seed=1)
images, labels, done = oc.damage(cut.images, cut.labels, seed=1)
np.savez(folder / "found.npz", images=images[:, 0], labels=labels, classes=cut.classes)
lost = oc.open_patches(folder / "found.npz")

# %%
# ``oc.locate`` compares every patch with every window of the inline sections. It ignores brightness
# and contrast. It reports a place only if a patch from elsewhere would hardly fit as well.

located = oc.locate(lost, folder / "survey.sgy", axis=0)
places = located.to_frame(lost)
ready = oc.with_positions(lost, located)
now, before = ready.positions, cut.positions[done.order][located.found]
same = np.all([getattr(now, a) == getattr(before, a) for a in ("index", "row", "column")], axis=0)
print(f"{located.found.sum()} of {len(located)} found, {same.sum()} at the very sample")
places[["found", "inline", "crossline", "time", "score", "gain", "label"]].head()

# %%
figure, axes = plt.subplots(2, 5, figsize=(9, 4))
volume_image = amplitude[located.index]
for k, (above, below) in enumerate(axes.T):
    row, column = located.row[k], located.column[k]
    window = volume_image[k, row : row + 33, column : column + 33]
    above.imshow(images[k, 0].T, cmap="gray", vmin=0, vmax=255)
    below.imshow(window.T, cmap="gray", vmin=-3, vmax=3)
    above.set(title=f"patch {k}", xticks=[], yticks=[])
    below.set(xlabel=f"inline {located.index[k] + 1}", xticks=[], yticks=[])
axes[0, 0].set_ylabel("as handed over")
axes[1, 0].set_ylabel("found in the cube")

# %%
# Step 6: split by space
# ----------------------
#
# The located patches have positions, so they can be split like any others. ``oc.with_positions``
# has also put the original samples in place of the damaged images.

slabs = oc.SlabSplit(axis=0, thickness=8, n_splits=3, buffer=4).assign(ready)
shuffled = oc.splits.random_counterpart(ready, slabs, seed=0)  # as many patches on each side
recipe = oc.Recipe(epochs=12)
for name, split in (("random", shuffled), ("spatial", slabs)):
    found = oc.train(ready, split, folder / name, network, recipe, graph=False)
    print(f"{name} split: overall accuracy {found.scores.overall}")
work.cleanup()

# %%
# Report the spatial score: under the random split nearly the same section lies on both sides. Its
# interval is wide, because few slabs are held out. It is a score for this cube; another survey
# needs labels of its own. Now use ``ready`` and ``slabs`` in steps 3 and 4 in place of the picks.
