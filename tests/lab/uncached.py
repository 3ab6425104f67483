"""For mutation testing (make mutate): every question is worked out anew.

mutmut runs each mutant in a fork of a process that has run all tests once.  There,
mproutd/planning/cache.py would know the right answer from before, and spare the mutant.
pytest loads this before anything that uses memo.py is imported.
"""

from __future__ import annotations

from mproutd.planning import cache

cache.cache_last_by = lambda key: lambda function: function
