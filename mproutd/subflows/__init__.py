"""Subflows that failed are opened again."""
