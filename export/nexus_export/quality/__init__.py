"""Measures artifacts on real photos and holds them to their gates."""
