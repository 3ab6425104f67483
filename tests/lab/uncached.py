"""Disables mproutd/planning/cache.py for mutation testing (make mutate).

mutmut runs each mutant in a fork of a process that has run all tests once, so a cached result
of the original code would hide the mutant.  pytest loads this before anything that uses the
cache is imported.
"""

from __future__ import annotations

from mproutd.planning import cache

cache.cache_last_by = lambda key: lambda function: function
cache.cache_recent = lambda count: lambda function: function
