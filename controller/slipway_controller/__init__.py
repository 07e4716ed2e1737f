"""Controller of the ``Model`` resources: registry alias, then InferenceService, then traffic."""
