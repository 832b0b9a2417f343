"""Modelling layers: a program becomes a cvxpy or Pyomo model, and a user's model becomes a program again."""
