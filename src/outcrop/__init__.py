"""Patch classification on scenes and volumes, scored on new ground."""

__version__ = "0.1.0"
