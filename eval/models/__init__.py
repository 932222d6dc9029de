"""Models: how each kind is loaded and wrapped."""
