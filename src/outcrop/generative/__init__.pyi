"""Networks that learn the pictures themselves: VAE, GAN and VAE-GAN."""

from .drawing.codes import class_samples as class_samples
from .drawing.generate import generate as generate
from .frechet import frechet_at_infinity as frechet_at_infinity
from .frechet import frechet_distance as frechet_distance
from .frechet import frechet_floor as frechet_floor
from .neighbours import memorised as memorised
from .neighbours import sample_precision_recall as sample_precision_recall
from .network import VaeGan as VaeGan
from .plan import VaeGanPlan as VaeGanPlan
from .recipe import PictureAugmentation as PictureAugmentation
from .recipe import VaeGanRecipe as VaeGanRecipe
from .reconstruction import relative_error as relative_error
from .retrieval import retrieved as retrieved
from .run import read_vaegan_run as read_vaegan_run
from .training.engine import train_vaegan as train_vaegan
