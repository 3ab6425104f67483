"""Packages, hooks and scripts of OpenWrt and Debian."""
