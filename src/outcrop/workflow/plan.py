"""`Experiment`: the plan of an experiment, and its YAML file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from outcrop.errors import OutcropError
from outcrop.frames import Tabular, frame
from outcrop.models.architectures import (
    MULTI_SCALE,
    MultiScaleNet,
    Network,
    ResidualNet,
    UserNet,
    network_named,
)
from outcrop.sources.reading import Reading
from outcrop.training.recipe import REMOVED, Augmentation, Machine, Recipe, Tuning
from outcrop.typed import typed

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Experiment(Tabular):
    """Plan of an experiment; `experiment.yaml` in the result folder lists every setting.

    Attributes:
        scenes: raster files or products; single-band files of the same area form one scene, and
            so do names joined by a plus sign.
        labels: polygons, points or label rasters; one file for all scenes or one per scene.
        column: column of vector labels that holds the class.
        truth: class rasters to compare the maps with, one per scene, if they exist. Without a
            coordinate reference system, that of `labels_crs` or `crs` is assumed.
        size: height and width of a patch in pixels. Odd sizes have the labelled pixel in the
            middle. Default: 33, or a tenth of the shorter side of a small scene, at least 9.
        bands: bands to use, by number (from 1) or by name. Default: all.
        reading: how rasters are read.
        stride: use only the labelled pixels on every n-th row and column.
        per_class: maximum number of patches per class.
        classes: class names for the values of label rasters, in ascending order, or as VALUE=NAME.
            They also apply to class rasters in `truth` that do not name their values; with vector
            labels, to these alone.
        colours: colours of classes in maps and reports, as NAME=COLOUR with COLOUR as #rrggbb or an
            English name. Default: those in the style or colour table of the labels; other classes
            get colours that can be distinguished, also with a colour vision deficiency.
        crs: coordinate reference system of scenes that have none.
        labels_crs: coordinate reference system of labels that have none.
        layer: layer of a vector file that has several.
        encoding: text encoding of vector labels that declare none or a wrong one.
        block: side of a spatial block in metres. Default: a tenth of the extent of the labelled
            areas, less if most of it is empty, at least four patches.
        buffer: minimum distance in metres between training and validation patches. Default: one
            patch.
        folds: number of spatial folds, each held out once; 1 holds out one of five parts and no
            other.
        maps: number of scenes to map. Default: all.
        step: map one pixel of each cell of `step × step` pixels.
        network: multi-scale; the name of a residual network; or package.module:function of yours,
            which is run. Options below change it. Default: multi-scale, or what tuning chooses.
        map_with: model that makes the maps, for example "network" or "SVM, centre pixel". Default:
            the model that cross-validation recommends.
        recipe: how the network is trained; its seed is used for every random draw.
        tuning: tuning of the network, repeated in each training.
    """

    scenes: list[str]
    labels: list[str]
    column: str | None = None
    truth: list[str] = field(default_factory=list)
    size: int | None = None
    bands: list[str] | None = None
    reading: Reading = Reading()
    stride: int = 1
    per_class: int | None = None
    classes: list[str] | None = None
    colours: list[str] | None = None
    crs: str | None = None
    labels_crs: str | None = None
    layer: str | None = None
    encoding: str | None = None
    block: float | None = None
    buffer: float | None = None
    folds: int = 5
    maps: int | None = None
    step: int = 1
    network: Network | None = None
    map_with: str | None = None
    recipe: Recipe = field(default_factory=Recipe)
    tuning: Tuning = Tuning()

    def __repr__(self) -> str:
        network = "default network" if self.network is None else self.network.title
        return (
            f"Experiment({len(self.scenes)} scenes, {len(self.labels)} label files, "
            f"{self.folds} folds, {network})"
        )

    def to_frame(self) -> pandas.DataFrame:
        """One row per setting, as in `experiment.yaml`."""
        import yaml

        settings = yaml.safe_load(self.to_yaml())
        values = [str(value) for value in settings.values()]
        return frame({"setting": list(settings), "value": values}, "setting")

    def truth_classes(self) -> list[list[str] | None]:
        """Names for the values of each raster in `truth`, as `VALUE=NAME`, from `classes`.

        None if the raster names its values itself, or `classes` is not given.

        Raises:
            OutcropError: a raster cannot be read, or `classes` does not name all of its values.
        """
        from outcrop.sources.class_raster import names_by_value, open_class_raster
        from outcrop.sources.vector import is_vector

        if self.classes is None or not self.truth:
            return [None] * len(self.truth)
        crs = self.labels_crs or self.crs
        truth = [open_class_raster(path, crs) for path in self.truth]
        labels = [open_class_raster(path, crs) for path in self.labels if not is_vector(path)]
        unnamed = [raster for raster in truth if not raster.own]
        if not unnamed:
            return [None] * len(truth)
        names = names_by_value(labels or unnamed, self.classes)
        return [
            None if raster.own else [f"{value}={name}" for value, name in names.items()]
            for raster in truth
        ]

    def to_yaml(self) -> str:
        """The experiment as YAML for `outcrop experiment --config`."""
        import yaml

        content = asdict(replace(self, network=None))
        content["network"] = {"network": None} if self.network is None else _yaml_of(self.network)
        for part in ("reading", "network", "recipe", "augmentation", "machine", "tuning"):
            content |= content.pop(part)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, text: str) -> Experiment:
        """The experiment from the result of `to_yaml`; keys may have dashes instead of underscores.

        Raises:
            OutcropError: the text is not an experiment, or a key is unknown.
        """
        import yaml

        try:
            given = typed(dict[str, Any], yaml.safe_load(text))
            content = {key.replace("-", "_"): value for key, value in given.items()}
            reading = typed(Reading, _taken(Reading, content))
            tuning = typed(Tuning, _taken(Tuning, content))
            network, recipe = take_training(content)
            plan = typed(cls, content)
        except OutcropError:
            raise
        except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
            raise OutcropError("experiment", f"cannot be read ({error})") from error
        return replace(plan, reading=reading, network=network, recipe=recipe, tuning=tuning)


def take_training(content: dict[str, Any]) -> tuple[Network | None, Recipe]:
    """Remove the fields of network and recipe from `content` and return both.

    As on the command line, `network` may be a name, and further fields change that network.
    Without a name and fields the network is None.

    >>> content = {"network": "resnet20", "survival": 0.5, "epochs": 9, "flip": False, "size": 8}
    >>> network, recipe = take_training(content)
    >>> network.title, recipe.epochs, recipe.augmentation.flip, content
    ('ResNet-20 + stochastic depth', 9, False, {'size': 8})
    """
    for name, remedy in REMOVED.items():
        if content.pop(name, None):
            raise OutcropError(name, f"there is no such setting any more; {remedy}")
    parts = {"augmentation": _taken(Augmentation, content), "machine": _taken(Machine, content)}
    recipe = typed(Recipe, {**_taken(Recipe, content), **parts})
    name = typed(str | None, content.pop("network", None), "network")
    given = {kind: _taken(kind, content) for kind in (ResidualNet, MultiScaleNet)}
    if name is None:
        changed = [kind() for kind, changes in given.items() if changes]
        network: Network | None = changed[0] if changed else None
    else:
        network = network_named(name)
    for kind, changes in given.items():
        if isinstance(network, kind):
            network = typed(kind, {**asdict(network), **changes})
        elif changes:
            what = "a network" if network is None else network.title
            raise ValueError(f"{next(iter(changes))} is not a setting of {what}")
    return network, recipe


def _yaml_of(network: Network) -> dict[str, Any]:
    """Settings of a network for `take_training`."""
    if isinstance(network, UserNet):
        return {"network": network.factory}
    named = {"network": MULTI_SCALE if isinstance(network, MultiScaleNet) else "resnet20"}
    return named | asdict(network)


def _taken(kind: type, content: dict[str, Any]) -> dict[str, Any]:
    """Remove the entries that are fields of `kind` from `content` and return them."""
    names = [item.name for item in fields(kind) if item.name in content]
    return {name: content.pop(name) for name in names}
