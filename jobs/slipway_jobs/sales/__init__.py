"""Sales per store, product and day: from raw files to what a model of quantities knows on a
morning.
"""
