"""
From arrays to a class map in a notebook
========================================

You work in a notebook with ``rioxarray`` and ``geopandas``. You have a scene as DataArray and
labels as GeoDataFrame, and you want the class map as DataArray.

**The data are synthetic.** ``oc.make_coast`` draws a delta with six classes and simulates four
bands. The accuracies on this page say nothing about a real coast.
"""

import tempfile
from pathlib import Path

import geopandas as gpd
import rioxarray

import outcrop as oc

work = tempfile.TemporaryDirectory()
folder = Path(work.name)
coast = oc.make_coast(folder / "coast", images=1, size=260, seed=4)

# %%
# The scene
# ---------
#
# A DataArray needs coordinates and a coordinate reference system, as ``rioxarray`` reads them.

array = rioxarray.open_rasterio(coast.scenes[0], mask_and_scale=True)
array

# %%
# ``oc.open_scene`` shows what outcrop makes of it: bands, size, coordinate system.

scene = oc.open_scene(array)
scene

# %%
# The labels
# ----------

labels = gpd.read_file(coast.labels)
labels.head()

# %%
# Patches
# -------
#
# A patch is cut around every third labelled pixel in both directions.

patches = oc.cut(array, labels, "class", 9, stride=3)
patches.to_geodataframe().head()

# %%
# Spatial folds
# -------------
#
# Patches of one block are held out together. The map shows which fold holds out each patch.

folds = oc.BlockSplit(block=400, buffer=90, n_splits=3).assign_all(patches)
extents = patches.to_geodataframe()
extents["fold"] = folds.held_out
extents.plot("fold", categorical=True, legend=True, figsize=(6, 5))

# %%
# The comparison
# --------------
#
# Two classical models are compared, without a network. Each row has the balanced accuracy on
# held-out blocks with its 95 % interval. ``leak_gap`` is the score under a random split minus this
# score.

models = [
    oc.Baseline("maximum likelihood", "centre pixel"),
    oc.Baseline("decision tree", "patch statistics"),
]
comparison = oc.compare(
    patches, folds, folder / "comparison", only_classical=True, baselines=models, workers=1
)
comparison

# %%
# The map
# -------
#
# The recommended model is fitted to all labelled patches, and maps the scene. Its score is that of
# the comparison, because no patches are left for another one.

run = oc.fit_to_all(patches, folder / "comparison", folder / "final")
made = oc.map_scene(run, array, folder / "classes.tif", folder / "confidence.tif")
made

# %%
# The map as DataArray: 0 is no data, then the classes from 1.

classes = made.to_xarray()
classes

# %%
# Confidence is the probability of the class in per cent.

confidence = made.to_xarray("confidence")
confidence.where(confidence != confidence.attrs["_FillValue"]).plot(figsize=(6, 5))

# %%
work.cleanup()
