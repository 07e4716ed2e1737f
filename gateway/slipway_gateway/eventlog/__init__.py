"""What stays of a prediction: spool, event log, images, labels; and what is forgotten."""
