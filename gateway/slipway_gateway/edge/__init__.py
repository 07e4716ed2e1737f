"""What every request meets first: who calls, whether they are let in, and who answers, now or
later.
"""
