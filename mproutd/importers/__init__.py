"""Configurations of other programs, as mproutd would have them."""
