"""What reports of the house ask of this wing: pages of its runs, and options of its encoders."""

from __future__ import annotations

from outcrop.generative.page import write_page
from outcrop.generative.repeat import encoder_options
from outcrop.training.folder import PICTURE_MODEL

__all__ = ["KIND", "encoder_options", "write_page"]

KIND = PICTURE_MODEL
"""The kind of the runs that `write_page` and `encoder_options` are about."""
