"""Quantizers that make a model's artifact small."""
