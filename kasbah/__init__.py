"""Kasbah: the AI cloud you own."""

__version__ = "0.1.0"
