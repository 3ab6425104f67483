#!/usr/bin/python3 -I
"""mproutd, with the libraries that came with it in front of Debian's."""

import sys

sys.path.insert(0, "/usr/lib/mproutd")

from mproutd.cli import main

sys.exit(main())
