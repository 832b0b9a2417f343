"""Small learned controllers and the properties that ``instances.csv`` lists."""
