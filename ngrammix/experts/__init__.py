"""The experts of the mixture: tilt, gate and guard, and the chain that runs them."""
