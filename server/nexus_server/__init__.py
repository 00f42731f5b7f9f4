"""Serves a model repository with a real tritonserver: found, or set up, then watched.

Knows processes, ports and files; nothing of images or networks.
"""
