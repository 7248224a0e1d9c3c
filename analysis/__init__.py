"""Judge: from a run directory to a verdict, charts and a report."""
