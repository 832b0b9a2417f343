"""Branch and bound: the only place that has a strategy."""
