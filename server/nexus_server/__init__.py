"""Serves a model repository with a real tritonserver: finds or sets one up, then supervises it.

Knows processes, ports and files; knows nothing of images or networks.
"""
