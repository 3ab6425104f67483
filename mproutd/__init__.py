"""mproutd keeps routing tables, rules and MPTCP endpoints as the configuration says."""

import sys

# This file must be valid in every version, so that an old one gets to this line.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        "mproutd: needs Python 3.11 or later; %s is %s"  # noqa: UP031
        % (sys.executable, sys.version.split()[0])
    )

__version__ = "0.1.0"
