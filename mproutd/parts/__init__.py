"""What runs beside the passes, where it is asked for."""
