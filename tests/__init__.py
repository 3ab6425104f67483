"""Tests, and the laboratory that they, the demo and the benchmark share."""
