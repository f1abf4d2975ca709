"""The energy model, linear in its coefficients, so that training is one linear solve."""
