"""What a model of ours declares: its target, metrics, split and parameters."""
