"""A classifier of photographs with pretrained weights, as a package of user code."""
