"""Cart-pole balanced by pushes to the left and to the right."""
