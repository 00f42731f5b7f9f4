"""Trains the networks whose weights this project makes itself: a compact LaMa and a compact SDXL."""
