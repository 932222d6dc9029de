"""The mixer inside other tools; each module needs the package that it extends."""
