"""Two revisions in a guest whose clock counts instructions: `make bench-exact BASE=REV`."""
