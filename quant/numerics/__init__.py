"""The numerical parts that quantizers share: grids, codebooks, Hessians and solvers."""
