"""What should be in the kernel, what has to change, and when; pure."""
