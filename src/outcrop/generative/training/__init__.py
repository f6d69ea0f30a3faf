"""Patches and a split become networks that have learnt the pictures."""
