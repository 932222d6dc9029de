"""The workbench: score a data set in bits per byte, with and without the n-gram cache."""
