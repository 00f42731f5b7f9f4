"""The one exception of this package."""


class ServerError(Exception):
    """Why serving is not possible, in one sentence that ends with what to do."""
