"""Sales per store, product and day: raw files, the warehouse, and features for forecasts."""
