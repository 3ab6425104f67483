"""The pages in a real Chromium: `make browser`, or pytest with this folder named."""
