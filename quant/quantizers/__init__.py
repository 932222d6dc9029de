"""The quantizers: one file each, with its configuration."""
