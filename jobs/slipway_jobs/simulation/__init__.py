"""Traffic as it might be."""
