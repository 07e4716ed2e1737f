"""The tables of declared datasets: readers of files, and seeded generators."""
