"""How long to wait between tries: exponential backoff with full jitter.

Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. Knows nothing of requests or clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .exceptions import InvalidInput


@dataclass(frozen=True)
class RetryPolicy:
    """The waits between the tries of one call, in seconds.

    Usage: `Client(retries=RetryPolicy(initial=0.5, maximum=5.0))`, or `Client(retries=None)` for a single try.

    The n-th wait is drawn uniformly from [0, min(maximum, initial * multiplier ** n)], so that clients which lost a
    server together do not come back together. The number of tries is not limited: the call's `timeout` is the budget.
    """

    initial: float = 0.1
    maximum: float = 2.0
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        if not (0 < self.initial <= self.maximum and self.multiplier >= 1):
            raise InvalidInput("a RetryPolicy needs 0 < initial <= maximum and multiplier >= 1")

    def waits(self, random: Callable[[], float]) -> Iterator[float]:
        """Yield one wait after another, without end; `random` draws from [0, 1)."""
        ceiling = self.initial
        while True:
            yield random() * ceiling
            ceiling = min(self.maximum, ceiling * self.multiplier)
