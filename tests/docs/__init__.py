"""The documentation agrees with the program; generators of its tables and screens."""
