"""Jobs of the cluster that people ask for: trainings, promotions, batches."""
