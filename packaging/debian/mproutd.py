#!/usr/bin/python3 -I
"""mproutd, whose modules are in a folder of their own."""

import sys

sys.path.insert(0, "/usr/lib/mproutd")

from mproutd.cli import main

sys.exit(main())
