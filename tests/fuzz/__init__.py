"""Whatever comes in from outside, made up: no traceback, no hang, no wrong write, no escape.

Each test here is a target.  In the suite a target gets a few dozen cases; `make fuzz
SECONDS=600` gives each its share of that time, and lets coverage guide the search where
atheris is installed (python -m tests.fuzz --help).  A finding is fixed, and kept as an
`@example` of its target or as a test beside the module.
"""
