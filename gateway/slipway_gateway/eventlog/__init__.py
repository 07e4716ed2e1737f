"""What stays of a prediction: spool, event log, pictures, labels; and what is forgotten."""
