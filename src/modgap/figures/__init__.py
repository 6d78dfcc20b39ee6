"""The figures of Chowers et al. (2026), redrawn from simulations and from the data at hand."""
