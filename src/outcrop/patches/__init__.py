"""Patch sets: cut, read and write labelled patches with their positions."""
