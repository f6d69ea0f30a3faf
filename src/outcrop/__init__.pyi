"""Patch classification on scenes and volumes, scored on held-out ground."""

from . import evaluation as evaluation
from . import generative as generative
from . import locating as locating
from . import models as models
from . import splits as splits
from . import synthetic as synthetic

# trust
from .auditing.audit import audit as audit
from .auditing.folder import read_audit as read_audit
from .errors import OutcropError as OutcropError
from .evaluation.assessment import read_assessment as read_assessment
from .evaluation.calibration import calibrate as calibrate
from .evaluation.contests import contests as contests

# results
from .evaluation.scores import score as score
from .experiment.compare import compare as compare
from .experiment.compare_runs import compare_runs as compare_runs
from .experiment.evaluate import evaluate as evaluate
from .experiment.experiment import run_experiment as run_experiment
from .experiment.plan import Experiment as Experiment
from .experiment.reproduce import reproduce as reproduce
from .generative.drawing.codes import class_samples as class_samples
from .generative.drawing.generate import generate as generate
from .generative.frechet import frechet_at_infinity as frechet_at_infinity
from .generative.frechet import frechet_distance as frechet_distance
from .generative.frechet import frechet_floor as frechet_floor
from .generative.neighbours import memorised as memorised
from .generative.neighbours import sample_precision_recall as sample_precision_recall
from .generative.network import VaeGan as VaeGan
from .generative.plan import VaeGanPlan as VaeGanPlan
from .generative.recipe import PictureAugmentation as PictureAugmentation
from .generative.recipe import VaeGanRecipe as VaeGanRecipe
from .generative.reconstruction import relative_error as relative_error
from .generative.retrieval import retrieved as retrieved
from .generative.run import read_vaegan_run as read_vaegan_run
from .generative.training.engine import train_vaegan as train_vaegan
from .locating.locate import locate as locate
from .locating.table import positions_table as positions_table
from .locating.table import with_positions as with_positions
from .locating.table import write_positions as write_positions
from .mapping.assess import assess as assess
from .mapping.polygons import write_polygons as write_polygons
from .mapping.sample import sample as sample
from .mapping.scene import map_scene as map_scene
from .mapping.volume import map_volume as map_volume
from .models.architectures import MultiScaleNet as MultiScaleNet

# models and training
from .models.architectures import ResidualNet as ResidualNet
from .models.architectures import UserNet as UserNet
from .models.baselines import BASELINES as BASELINES
from .models.baselines import Baseline as Baseline
from .models.cost import cost_of as cost_of
from .models.factory import build as build
from .patches.at_positions import cut_at_positions as cut_at_positions
from .patches.collection import open_patches as open_patches
from .patches.cut import cut as cut
from .patches.cut_volume import cut_volume as cut_volume

# patches
from .patches.patchset import PatchSet as PatchSet
from .reporting import write_report as write_report
from .sources.collections import read_collection as read_collection
from .sources.labels import open_labels as open_labels
from .sources.memory import scene_from_array as scene_from_array
from .sources.mosaic import lay_together as lay_together

# sources
from .sources.opening import open_scene as open_scene
from .sources.opening import open_scenes as open_scenes
from .sources.scene import Reading as Reading
from .sources.volumes import open_volume as open_volume
from .splits import BlockSplit as BlockSplit
from .splits import ColumnSplit as ColumnSplit
from .splits import Folds as Folds
from .splits import MatchingSplit as MatchingSplit
from .splits import RandomSplit as RandomSplit
from .splits import SceneSplit as SceneSplit
from .splits import SlabSplit as SlabSplit

# splits
from .splits import Split as Split
from .splits import ZoneSplit as ZoneSplit
from .splits import default_folds as default_folds
from .splits import read_folds as read_folds
from .splits import read_split as read_split
from .synthetic.coast import make_coast as make_coast
from .synthetic.cube import make_cube as make_cube
from .synthetic.damage import damage as damage
from .training.engine import train as train
from .training.estimator import ResidualClassifier as ResidualClassifier
from .training.export import export as export
from .training.recipe import Augmentation as Augmentation
from .training.recipe import Machine as Machine
from .training.recipe import Recipe as Recipe
from .training.recipe import Tuning as Tuning
from .training.run import read_model as read_model
from .training.run import read_run as read_run
from .training.trust import read_trust as read_trust

__version__: str
