"""python -m mproutd"""

from mproutd.cli import main

raise SystemExit(main())
