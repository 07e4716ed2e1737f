"""A small neural network for signals: layers, optimizer and classifier."""
