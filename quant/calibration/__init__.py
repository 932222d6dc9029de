"""Calibration: statistics of a model's inputs, gathered during forward passes."""
