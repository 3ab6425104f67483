"""The status and how it is rendered: text, live screen, metrics."""
