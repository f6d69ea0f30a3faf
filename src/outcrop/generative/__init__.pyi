"""Generative networks for patches: VAE, GAN and VAE-GAN."""

from .codes import class_samples as class_samples
from .drawing import generate as generate
from .plan import VaeGanPlan as VaeGanPlan
from .reconstruction import relative_error as relative_error
from .retrieval import retrieved as retrieved
from .run import read_vaegan_run as read_vaegan_run
from .samples import frechet_at_infinity as frechet_at_infinity
from .samples import frechet_distance as frechet_distance
from .samples import frechet_floor as frechet_floor
from .samples import memorised as memorised
from .samples import sample_precision_recall as sample_precision_recall
from .settings import GenerativeAugmentation as GenerativeAugmentation
from .settings import VaeGan as VaeGan
from .settings import VaeGanRecipe as VaeGanRecipe
from .training import train_vaegan as train_vaegan
