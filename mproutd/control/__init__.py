"""The control socket: the daemon answers, a command asks."""
