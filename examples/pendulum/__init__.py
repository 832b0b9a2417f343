"""Swing-up and balance of a pendulum with a weak motor."""
