"""Quantized files: records, container, codecs and packing."""
