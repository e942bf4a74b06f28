"""Studies as jobs on a Ray cluster: reaching it, sending them off, watching, fetching results."""
