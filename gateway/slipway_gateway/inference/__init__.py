"""How a prediction is made, from V2's request to the predictor's answer. The hot path: no
framework, no SQL.
"""
