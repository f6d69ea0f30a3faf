"""Comparison of models, experiments, evaluation, and reproduction of published recipes."""
