"""The force model: linear in its coefficients, so that learning is one solve."""
