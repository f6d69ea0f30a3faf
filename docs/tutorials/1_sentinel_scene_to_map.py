"""
From a Sentinel-2 scene to a class map with areas
=================================================

You have a Sentinel-2 granule and polygons with class names. You want a class map, and the area of
each class with a confidence interval.

**The data are synthetic.** ``oc.make_coast`` draws a delta with six classes and simulates four
bands. The accuracies on this page say nothing about a real coast.
"""

import tempfile
from pathlib import Path

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import rasterio
from matplotlib.colors import ListedColormap

import outcrop as oc

plt.rcParams["savefig.bbox"] = "tight"
work = tempfile.TemporaryDirectory()
folder = Path(work.name)
coast = oc.make_coast(folder / "coast", images=1, size=480, seed=4)

# %%
# Step 0: a granule
# -----------------
#
# With a real granule you need no code here: unpack the download and pass the ``.SAFE`` folder. Keep
# its name: without a metadata file ``outcrop`` reads level, date and processing baseline from it.
#
# This block writes four synthetic bands as a Level-2A granule. Since baseline 04.00 stored values
# are 1000 too high; ``outcrop`` subtracts this and reads surface reflectance. A real granule also
# has a scene classification (SCL), by which clouds are masked. This scene has no clouds.

safe = folder / "S2B_MSIL2A_20240215T031759_N0510_R118_T48PXS_20240215T062011.SAFE"
images = safe / "GRANULE" / "L2A_T48PXS_A036221_20240215T032813" / "IMG_DATA" / "R10m"
images.mkdir(parents=True)
bands = ["B02", "B03", "B04", "B08"]
with rasterio.open(coast.scenes[0]) as raster:
    stored, box = raster.read(), np.array(raster.bounds)
    grid = {"crs": raster.crs, "transform": raster.transform, "dtype": "uint16", "count": 1}
grid |= {"height": stored.shape[1], "width": stored.shape[2], "driver": "JP2OpenJPEG"}
for band, values in zip(bands, np.where(stored > 0, stored + 1000, 0), strict=True):
    path = images / f"T48PXS_20240215T031759_{band}_10m.jp2"
    with rasterio.open(path, "w", **grid, quality="100", reversible="yes") as raster:
        raster.write(values.astype(np.uint16), 1)

# %%
# Step 1: look at the scene and the labels
# ----------------------------------------

scene = oc.open_scene(safe, bands=bands)
print(scene.sensor, scene.band_names, f"{scene.width} x {scene.height} pixels")
labels = gpd.read_file(coast.labels)
with rasterio.open(coast.truths[0]) as raster:  # its colours, and for step 6 the true classes
    truth, tags, table = raster.read(1), list(raster.tags(1).values()), raster.colormap(1)
classes = sorted(tags)  # the order of classes in a patch set and in a map
truth = np.array([0] + [1 + classes.index(name) for name in tags])[truth]
colours = ListedColormap([np.array(table[1 + tags.index(name)]) / 255 for name in classes])
true_colour = np.clip(stored[[2, 1, 0]].transpose(1, 2, 0) / 2500, 0, 1)


def show(axis, image, title, **options):
    """Show a picture of the scene with its coordinates."""
    axis.set(title=title, xlabel="easting, m", ylabel="northing, m")
    axis.ticklabel_format(style="plain", useOffset=False)
    return axis.imshow(image, extent=box[[0, 2, 1, 3]], **options)


figure, axis = plt.subplots(figsize=(7, 5.4))
show(axis, true_colour, f"true colour (B04, B03, B02) and {len(labels)} labelled polygons")
where = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
labels.plot("class", ax=axis, cmap=colours, edgecolor="white", legend=True, legend_kwds=where)

# %%
# Lines that begin with ``note:`` say what was assumed. Every class has polygons in several parts of
# the scene; a class that is labelled in one place only cannot be tested elsewhere. If all polygons
# were shifted from their objects, their coordinate reference system would be wrong.
#
# Step 2: cut patches
# -------------------
#
# A patch is the square of pixels around one labelled pixel, and has the class of that pixel. Every
# second pixel is taken (``stride=2``), because neighbouring pixels give nearly equal patches.

patches = oc.cut([safe], coast.labels, "class", size=9, bands=bands, stride=2, per_class=100)
print(patches)

# %%
# Step 3: spatial folds
# ---------------------
#
# All patches of a block of 400 m, and all patches of a polygon, are held out together. Training
# patches closer than the buffer to a held-out patch are left out; 90 m is the width of a patch.

folds = oc.BlockSplit(block=400, buffer=90, n_splits=3).assign_all(patches)
ground = patches.to_geodataframe().assign(fold=folds.held_out + 1)
where["title"] = "held out in fold"
axis = ground.plot("fold", categorical=True, cmap="Dark2", legend=True, legend_kwds=where)
axis.ticklabel_format(style="plain", useOffset=False)
axis.set(xlabel="easting, m", ylabel="northing, m", title="patches on the ground")

# %%
# Patches of one fold come in groups, and the groups of all folds are spread over the scene.
#
# Step 4: compare models
# ----------------------
#
# ``oc.compare`` trains every model on each fold and scores it on the held-out patches, then repeats
# this with random folds. The *leak gap* is the overall accuracy under the random split minus that
# under the spatial split. The options only save time here. The table is in per cent.

classical = [oc.Baseline("SVM", "patch statistics"), oc.Baseline("SVM", "centre pixel")]
options = {"recipe": oc.Recipe(epochs=15), "tuning": oc.Tuning(trials=1), "baselines": classical}
comparison = oc.compare(patches, folds, folder / "comparison", **options)
table = comparison.to_frame()
(100 * table.set_index(["model", "features"])[["balanced", "overall", "leak_gap"]]).round(1)

# %%
figure, axis = plt.subplots(figsize=(8, 3))
rising = 100 * table[::-1].select_dtypes("number")
ends = [rising.overall - rising.overall_low, rising.overall_high - rising.overall]
names = [row.title for row in comparison.rows[::-1]]
axis.errorbar(rising.overall, names, xerr=ends, fmt="o", label="spatial split, 95 % interval")
axis.plot(rising.overall + rising.leak_gap, names, "D", label="random split")
axis.set(xlabel="overall accuracy, %")
axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
print(comparison.recommendation)

# %%
# The random split gives a higher score for each model. Report the spatial score, because the map is
# used where no label is near. The sentence above says whether the best model is shown to be better.
#
# Step 5: fit to all labels and map
# ---------------------------------
#
# The best classical model is now fitted to all patches, with a split that puts every patch on the
# training side (0). ``outcrop experiment`` does steps 2 to 5 in one command, also for networks.

best = next(row for row in comparison.rows if row.features != "patch")
everything = oc.Split(np.zeros(len(patches), np.int8), folds.groups, patches.fingerprint)
run = oc.train(patches, everything, folder / "run", oc.Baseline(best.model, best.features))
mapped = oc.map_scene(run, scene, folder / "classes.tif", folder / "confidence.tif")
class_map = np.ma.masked_equal(mapped.to_xarray().values, 0)
confidence = np.ma.masked_equal(mapped.to_xarray("confidence").values, 255)

figure, axes = plt.subplots(1, 2, figsize=(13, 5), gridspec_kw={"wspace": 0.5})
picture = show(axes[0], class_map, best.title, cmap=colours, vmin=0.5, vmax=6.5)
figure.colorbar(picture, ax=axes[0], shrink=0.7, ticks=range(1, 7)).ax.set_yticklabels(classes)
picture = show(axes[1], confidence, "confidence")
figure.colorbar(picture, ax=axes[1], shrink=0.7, label="probability of the class, %")

# %%
# White is outside the swath. Confidence is lowest in the speckled parts of the map.
#
# Step 6: assess the map
# ----------------------
#
# Areas from the pixel counts of a map contain its errors. ``oc.sample`` draws random points in each
# class of the map. A person fills their column ``class`` from field work or a better image, without
# looking at the map. Here the known truth fills it.

points = folder / "points.gpkg"
oc.sample(folder / "classes.tif", points, n=400)
reference = gpd.read_file(points)
rows, columns = scene.row_column(reference.x.values, reference.y.values)
reference["class"] = np.array(classes)[truth[rows, columns] - 1]
reference.to_file(points)
assessment = oc.assess(folder / "classes.tif", points)
print(f"overall accuracy {assessment.accuracy.overall} %; {assessment.design}")

# %%
figure, axis = plt.subplots(figsize=(8, 3.4))
height = np.arange(len(classes))
area = assessment.whole * np.array([[a.value, a.margin] for a in assessment.accuracy.area]).T
axis.barh(height + 0.2, assessment.mapped, 0.4, color="#bbbbbb", label="pixels of the map")
axis.barh(height - 0.2, area[0], 0.4, xerr=area[1], color="#0072b2", label="estimate ± 95 %")
true_area = np.bincount(truth[~class_map.mask])[1:] / 100  # a pixel has 0.01 ha
axis.plot(true_area, height - 0.2, "k|", markersize=13, label="truth")
axis.set(xlabel="area, ha", yticks=height, yticklabels=classes)
axis.legend(loc="upper left", bbox_to_anchor=(1, 1))

# %%
# The black line is the true area, which a real job does not have. The estimates are corrected for
# the errors of the map, and most intervals contain the truth. More points make them narrower.
#
# Step 7: open the map in QGIS
# ----------------------------
#
# Open ``classes.tif``, ``confidence.tif`` and ``points.gpkg``. QGIS takes class names and colours
# from the style ``.qml`` beside each map, and other programs from ``classes.tif.aux.xml``. QGIS was
# not started for this page.

print(*sorted(path.name for path in folder.glob("*.*") if path.is_file()), sep="\n")
work.cleanup()
