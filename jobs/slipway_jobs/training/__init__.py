"""The pipeline that every training goes through, and what it leaves with a version."""
