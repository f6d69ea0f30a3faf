"""Patches, a split and a network become a run."""
