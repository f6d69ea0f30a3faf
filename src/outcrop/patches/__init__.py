"""Patches that remember where they were cut."""
