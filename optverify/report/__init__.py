"""Text and HTML for people; knows nothing of the objects shown."""
