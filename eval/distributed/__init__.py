"""Many ranks: who runs the model where, and how they talk."""
