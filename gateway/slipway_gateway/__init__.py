"""The one door for users: who calls, what they may, which version answers, and the log of every
answer.
"""
