"""The families of networks: how each is built from checkpoints; one folder or module a family, see `registry`."""
