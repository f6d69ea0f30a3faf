"""
From a Sentinel-2 scene to a class map with areas
=================================================

You have a Sentinel-2 granule and polygons with class names.
You want a class map, and the area of each class with a confidence interval.

The steps are: look at the labels, cut patches, make spatial folds, compare models, fit the best
model to all labels, map the scene, and assess the map with random points.

**The data are synthetic.** ``oc.make_coast`` draws a delta with six classes and simulates four
bands. The accuracies on this page say nothing about a real coast.
"""

import tempfile
from pathlib import Path

import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import rasterio
from matplotlib.patches import Patch

import outcrop as oc

plt.rcParams["savefig.bbox"] = "tight"
work = tempfile.TemporaryDirectory()
folder = Path(work.name)
coast = oc.make_coast(folder / "coast", images=1, size=480, seed=4)

# %%
# Step 0: a granule
# -----------------
#
# With a real granule you need no code here: unpack the download and pass the name of the ``.SAFE``
# folder. ``outcrop`` reads satellite, level, date and processing baseline from the metadata file,
# or from the folder name if that file is missing. Keep the folder name as it is.
#
# This block writes four synthetic bands in the layout of a Level-2A granule. Since baseline 04.00
# stored values are 1000 too high; ``outcrop`` takes the 1000 away. A real granule also has a scene
# classification (SCL), by which ``outcrop`` masks clouds. This scene has no clouds.

safe = folder / "S2B_MSIL2A_20240215T031759_N0510_R118_T48PXS_20240215T062011.SAFE"
images = safe / "GRANULE" / "L2A_T48PXS_A036221_20240215T032813" / "IMG_DATA" / "R10m"
images.mkdir(parents=True)
bands = ["B02", "B03", "B04", "B08"]
with rasterio.open(coast.scenes[0]) as raster:
    stored, box = raster.read(), np.array(raster.bounds) / 1000
    grid = {"crs": raster.crs, "transform": raster.transform, "dtype": "uint16", "count": 1}
grid |= {"height": stored.shape[1], "width": stored.shape[2], "driver": "JP2OpenJPEG"}
for band, values in zip(bands, np.where(stored > 0, stored + 1000, 0), strict=True):
    path = images / f"T48PXS_20240215T031759_{band}_10m.jp2"
    with rasterio.open(path, "w", **grid, quality="100", reversible="yes") as raster:
        raster.write(values.astype(np.uint16), 1)

# %%
# Step 1: look at the scene and the labels
# ----------------------------------------
#
# Values are surface reflectance: offset and scale of the product are applied.

scene = oc.open_scene(safe, bands=bands)
print(scene.sensor, scene.band_names, f"{scene.width} x {scene.height} pixels")
labels = gpd.read_file(coast.labels)
with rasterio.open(coast.truths[0]) as raster:  # its colours, and for step 6 the true classes
    truth, classes = raster.read(1), list(raster.tags(1).values())
    colours = np.array([raster.colormap(1)[k + 1] for k in range(len(classes))]) / 255
legend = [Patch(color=c, label=n) for c, n in zip(colours, classes, strict=True)]
true_colour = np.clip(stored[[2, 1, 0]].transpose(1, 2, 0) / 2500, 0, 1)


def show(axis, image, title, **options):
    """Show a picture of the scene with coordinates in kilometres."""
    axis.set(title=title, xlabel="easting, km", ylabel="northing, km")
    axis.ticklabel_format(useOffset=False)
    return axis.imshow(image, extent=box[[0, 2, 1, 3]], **options)


figure, axis = plt.subplots(figsize=(7, 5.4))
show(axis, true_colour, f"true colour (B04, B03, B02) and {len(labels)} labelled polygons")
for name, colour in zip(classes, colours, strict=True):
    shapes = labels.geometry[labels["class"] == name].scale(1e-3, 1e-3, origin=(0, 0))
    shapes.plot(ax=axis, color=colour, edgecolor="white", linewidth=0.4, aspect=None)
axis.legend(handles=legend, loc="upper left", bbox_to_anchor=(1, 1))

# %%
# Every class has polygons in several parts of the scene; a class that is labelled in one place only
# cannot be tested elsewhere. The polygons lie on their objects; if all of them were shifted, their
# coordinate reference system would be wrong.
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
# The ground is divided into blocks of 400 m. All patches of a block, and all patches of a polygon,
# are held out together. Training patches closer than the buffer to a held-out patch are left out.
# 90 m is the width of a patch, so no training patch touches a held-out one.

folds = oc.BlockSplit(block=400, buffer=90, folds=3).assign_all(patches)
ground = patches.to_geodataframe().assign(fold=folds.held_out + 1)
where = {"title": "held out in fold", "loc": "upper left", "bbox_to_anchor": (1, 1)}
axis = ground.plot("fold", categorical=True, cmap="Dark2", legend=True, legend_kwds=where)
axis.set(xlabel="easting, m", ylabel="northing, m", title="patches on the ground")

# %%
# Patches of one fold come in groups, and the groups of all folds are spread over the scene.
#
# Step 4: compare models
# ----------------------
#
# ``oc.compare`` trains every model on each fold and scores it on the held-out patches. It repeats
# this with a random split of the same patches. The *leak gap* is the overall accuracy under the
# random split minus the overall accuracy under the spatial split. The options only save time here.

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
class_map = mapped.to_xarray().values
confidence = np.ma.masked_equal(mapped.to_xarray("confidence").values, 255)

figure, axes = plt.subplots(1, 2, figsize=(10.5, 5.2))
palette = np.vstack([[1, 1, 1, 1], colours[[classes.index(name) for name in mapped.classes]]])
show(axes[0], palette[class_map], f"class map: {best.title}")
bar = figure.colorbar(show(axes[1], confidence, "confidence"), ax=axes[1], shrink=0.8)
bar.set_label("probability of the class, %")
axes[0].legend(handles=legend, ncols=3, loc="upper left", bbox_to_anchor=(0, -0.15))

# %%
# White is outside the swath and has no class. Confidence is lowest along the coast and the borders
# of fields, where a patch holds several classes.
#
# Step 6: assess the map
# ----------------------
#
# Do not take areas from the pixel counts of the map: they contain its errors. ``oc.sample`` draws
# random points in each class of the map and leaves their column ``class`` empty. A person fills it
# from field work or from a better image, without looking at the map. Here the known truth fills it.

points = folder / "points.gpkg"
oc.sample(folder / "classes.tif", points, n=400)
reference = gpd.read_file(points)
rows, columns = scene.row_column(reference.x.values, reference.y.values)
reference["class"] = [classes[value - 1] for value in truth[rows.astype(int), columns.astype(int)]]
reference.to_file(points)
assessment = oc.assess(folder / "classes.tif", points)
print(f"overall accuracy {assessment.accuracy.overall} %")
print(assessment.design)

# %%
figure, axis = plt.subplots(figsize=(8, 3.4))
height = np.arange(len(assessment.classes))
area = assessment.whole * np.array([[a.value, a.margin] for a in assessment.accuracy.area]).T
axis.barh(height + 0.2, assessment.mapped, 0.4, color="#bbbbbb", label="pixels of the map")
axis.barh(height - 0.2, area[0], 0.4, xerr=area[1], color="#0072b2", label="estimate ± 95 %")
code = [1 + classes.index(name) for name in assessment.classes]
axis.plot(
    np.bincount(truth[class_map > 0])[code] / 100, height - 0.2, "k|", markersize=13, label="truth"
)
axis.set_yticks(height, assessment.classes)
axis.set(xlabel="area, ha")
axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %%
# The black line is the true area, which a real job does not have. The estimates are corrected for
# the errors of the map, and most intervals contain the truth. More points make them narrower.
#
# Step 7: open the map in QGIS
# ----------------------------
#
# Open ``classes.tif`` and ``confidence.tif`` in QGIS. It reads the file ``.qml`` of the same name,
# which holds the class names, the colours, and no-data as transparent. ``points.gpkg`` lies over
# them. Programs without styles read the names from ``classes.tif.aux.xml``. QGIS was not started
# for this page.

print(*sorted(path.name for path in folder.glob("*.*") if path.is_file()), sep="\n")
work.cleanup()
