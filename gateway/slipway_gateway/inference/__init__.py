"""The inference hot path, from the V2 request to the predictor's response.

It uses neither a web framework nor SQL.
"""
