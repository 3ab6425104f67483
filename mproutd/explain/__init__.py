"""`mproutd explain`: where the kernel sends one flow, and why."""
