"""The one exception of this package."""


class ServerError(Exception):
    """Serving is not possible; the message is one sentence that ends with the remedy."""
