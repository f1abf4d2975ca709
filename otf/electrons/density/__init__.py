"""The electron density: pointwise models, sampling, quadrature."""
