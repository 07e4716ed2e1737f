"""The example digits: handwritten digits from 8×8 pixels."""
