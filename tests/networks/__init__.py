"""The four networks of docs/networks, built and run with the real programs.

The guides are the source: every file that a machine has in these tests stands in its guide
(guide.py), so what a reader copies is what has been run.
"""
