"""Patch classification on scenes and volumes, scored on held-out ground."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Each name is imported when it is first used, so that `import outcrop` costs nothing and models
# load without the geospatial libraries.
_PUBLIC = {
    "OutcropError": "errors.OutcropError",
    # sources
    "open_scene": "sources.opening.open_scene",
    "open_scenes": "sources.opening.open_scenes",
    "scene_from_array": "sources.memory.scene_from_array",
    "Reading": "sources.scene.Reading",
    "open_volume": "sources.volumes.open_volume",
    "lay_together": "sources.mosaic.lay_together",
    "open_labels": "sources.labels.open_labels",
    "read_collection": "sources.collections.read_collection",
    "make_coast": "synthetic.coast.make_coast",
    "make_cube": "synthetic.cube.make_cube",
    # patches
    "PatchSet": "patches.patchset.PatchSet",
    "cut": "patches.cut.cut",
    "cut_volume": "patches.cut_volume.cut_volume",
    "cut_at_positions": "patches.at_positions.cut_at_positions",
    "open_patches": "patches.collection.open_patches",
    "damage": "synthetic.damage.damage",
    "locate": "locating.locate.locate",
    "with_positions": "locating.table.with_positions",
    "write_positions": "locating.table.write_positions",
    # splits
    "Split": "splits.Split",
    "Folds": "splits.Folds",
    "default_folds": "splits.default_folds",
    "read_split": "splits.read_split",
    "read_folds": "splits.read_folds",
    "RandomSplit": "splits.RandomSplit",
    "BlockSplit": "splits.BlockSplit",
    "MatchingSplit": "splits.MatchingSplit",
    "ZoneSplit": "splits.ZoneSplit",
    "SlabSplit": "splits.SlabSplit",
    "SceneSplit": "splits.SceneSplit",
    "ColumnSplit": "splits.ColumnSplit",
    # trust
    "audit": "auditing.audit.audit",
    "read_audit": "auditing.folder.read_audit",
    # models and training
    "ResidualNet": "models.architectures.ResidualNet",
    "MultiScaleNet": "models.architectures.MultiScaleNet",
    "UserNet": "models.architectures.UserNet",
    "build": "models.factory.build",
    "cost_of": "models.cost.cost_of",
    "BASELINES": "models.baselines.BASELINES",
    "Baseline": "models.baselines.Baseline",
    "Recipe": "training.recipe.Recipe",
    "Augmentation": "training.recipe.Augmentation",
    "Machine": "training.recipe.Machine",
    "train": "training.engine.train",
    "read_model": "training.run.read_model",
    "read_run": "training.run.read_run",
    "VaeGan": "generative.network.VaeGan",
    "VaeGanPlan": "generative.plan.VaeGanPlan",
    "VaeGanRecipe": "generative.recipe.VaeGanRecipe",
    "PictureAugmentation": "generative.recipe.PictureAugmentation",
    "train_vaegan": "generative.training.engine.train_vaegan",
    "read_vaegan_run": "generative.run.read_vaegan_run",
    "read_trust": "training.trust.read_trust",
    "export": "training.export.export",
    "ResidualClassifier": "training.estimator.ResidualClassifier",
    # results
    "score": "evaluation.scores.score",
    "frechet_distance": "generative.frechet.frechet_distance",
    "frechet_floor": "generative.frechet.frechet_floor",
    "frechet_at_infinity": "generative.frechet.frechet_at_infinity",
    "sample_precision_recall": "generative.neighbours.sample_precision_recall",
    "memorised": "generative.neighbours.memorised",
    "retrieved": "generative.retrieval.retrieved",
    "relative_error": "generative.reconstruction.relative_error",
    "calibrate": "evaluation.calibration.calibrate",
    "generate": "generative.drawing.generate.generate",
    "class_samples": "generative.drawing.codes.class_samples",
    "evaluate": "experiment.evaluate.evaluate",
    "compare": "experiment.compare.compare",
    "compare_runs": "experiment.compare_runs.compare_runs",
    "contests": "evaluation.contests.contests",
    "map": "mapping.scene.map_scene",
    "map_scene": "mapping.scene.map_scene",
    "map_volume": "mapping.volume.map_volume",
    "write_polygons": "mapping.polygons.write_polygons",
    "sample": "mapping.sample.sample",
    "assess": "mapping.assess.assess",
    "read_assessment": "evaluation.assessment.read_assessment",
    "Experiment": "experiment.plan.Experiment",
    "run_experiment": "experiment.experiment.run_experiment",
    "reproduce": "experiment.reproduce.reproduce",
    "report": "reporting.write_report",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'outcrop' has no attribute '{name}'")
    module, _, attribute = _PUBLIC[name].rpartition(".")
    value = getattr(import_module(f"outcrop.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
