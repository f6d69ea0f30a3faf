"""Can this patch set be trusted, and this split? Findings with evidence and a remedy."""
