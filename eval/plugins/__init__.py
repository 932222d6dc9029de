"""The mixture inside other people's tools; each file needs its tool, and nothing else needs it."""
