"""What the benchmark scripts run in processes of their own; each answers with one JSON object."""
