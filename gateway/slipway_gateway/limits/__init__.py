"""How much a caller may have: rates a minute, quotas a day and month, and what was used."""
