"""The declaration of a model's task: target, metrics, split and parameters."""
