"""Pixels: files to arrays and back, and where pixels go. Knows no networks."""
