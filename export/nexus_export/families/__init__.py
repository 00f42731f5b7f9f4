"""What every family of networks needs to be built: one folder or module a family, listed in `registry`."""
