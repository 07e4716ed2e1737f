"""A small neural network over a signal: its layers, how it learns, and the classifier that is made
of it.
"""
