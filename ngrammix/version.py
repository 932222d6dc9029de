"""The version of the package, also where it runs from a folder and was not installed."""

__version__ = "0.1.0"
