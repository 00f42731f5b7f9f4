"""Files from elsewhere, pinned and verified: published checkpoints over HTTP, packages from npm and PyPI."""
