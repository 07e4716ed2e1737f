"""Generator of the reference pages, which describe the code and so are made from it.

``python -m docs.generator`` writes the pages into ``docs/reference``; ``make docs`` calls it before
it builds the site. The pages are committed, and ``tests/test_reference.py`` compares them with what
the code gives.
"""
