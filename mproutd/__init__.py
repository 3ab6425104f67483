"""mproutd keeps routing tables, rules and MPTCP endpoints as the configuration says."""

__version__ = "0.1.0"
