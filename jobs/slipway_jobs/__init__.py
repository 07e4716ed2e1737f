"""Jobs that run to completion: train, evaluate, promote, monitor."""
