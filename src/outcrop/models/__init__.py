"""Networks (tensors in, tensors out) and classical baselines; no files, no geography."""
