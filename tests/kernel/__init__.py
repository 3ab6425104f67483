"""Tests of the daemon on the real kernel, in network namespaces."""
