"""Whole models: recipes, the plan, and the quantized model."""
