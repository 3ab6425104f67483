"""Optional parts of the daemon, each imported only where it is needed."""
