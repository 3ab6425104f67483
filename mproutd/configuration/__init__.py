"""From two UCI files to one Config."""
