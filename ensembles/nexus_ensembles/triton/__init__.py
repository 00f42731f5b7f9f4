"""Pipelines inside Triton's Python backend. Only modules of this package import triton_python_backend_utils."""
