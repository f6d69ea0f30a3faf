"""Readers of scenes, volumes, labels and collections of images."""
