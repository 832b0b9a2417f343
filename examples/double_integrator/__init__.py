"""Cart on a line under learned model predictive control."""
