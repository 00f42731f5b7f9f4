"""The compact SDXL: the pictures that it learns from, its networks and the three stages of its training."""
