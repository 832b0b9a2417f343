"""Pre-activation bounds: everything that leaves this package is rigorous."""
