"""Storage of predictions: spool, event log, images, labels, their budget, and erasure."""
