"""The ring as local processes, without Docker: the newcomer's first command, and what the fast
tests turn.
"""
