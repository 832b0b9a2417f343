"""Turn advisories that keep two aircraft apart."""
