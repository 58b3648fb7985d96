"""Bugs that nothing was mended for: written after the hypotheses that bugs.py led to."""

BUGS = []
