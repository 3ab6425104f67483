"""Networks as people have them, on the real kernel."""
