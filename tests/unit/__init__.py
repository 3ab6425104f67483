"""Tests of pure code: no root, no namespaces."""
