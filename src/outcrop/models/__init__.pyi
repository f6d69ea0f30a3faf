"""Networks (tensors in, tensors out) and classical baselines; no files, no geography."""

from .architectures import MultiScaleNet as MultiScaleNet
from .architectures import ResidualNet as ResidualNet
from .architectures import UserNet as UserNet
from .baselines import BASELINES as BASELINES
from .baselines import Baseline as Baseline
from .cost import cost_of as cost_of
from .factory import build as build
