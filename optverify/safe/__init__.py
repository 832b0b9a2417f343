"""Floating dual vectors in, rigorous bounds out."""
