"""Everything that runs to its end as a Job: train, evaluate, promote, monitor."""
