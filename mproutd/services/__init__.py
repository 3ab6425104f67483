"""What runs beside the passes in the daemon, each imported only where it is configured."""
