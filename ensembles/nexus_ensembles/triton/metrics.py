"""The pipelines' metrics, for Prometheus, on Triton's own metrics port."""

from collections.abc import Iterable, Mapping

import triton_python_backend_utils as pb_utils

from nexus_ensembles.errors import PipelineError

# The label `model` of a fill that no tier painted.
NONE = "none"


class InFlight:
    """nexus_requests_in_flight{pipeline}: requests under way; a server that is to stop waits for them."""

    def __init__(self, pipeline: str) -> None:
        # A family lives as long as its Python object. Those of all pipelines' processes are one to Triton.
        self._family = pb_utils.MetricFamily(
            "nexus_requests_in_flight", "Requests under way", pb_utils.MetricFamily.GAUGE
        )
        self._gauge = self._family.Metric(labels={"pipeline": pipeline})

    def show(self, requests: int) -> None:
        """Show how many requests are under way."""
        self._gauge.set(float(requests))


class FillMetrics:
    """The metrics of generative fill; one instance a process, because Triton accepts a family's name once.

    nexus_fills_total{model, outcome}           fills that have ended, by the tier that painted them
    nexus_network_out_of_memory_total{network}  calls for which a network had no memory
    nexus_fill_tier_left_out{model}             1 while a tier is left out because it was out of memory
    """

    def __init__(self, tiers: Iterable[str], networks: Iterable[str]) -> None:
        counter, gauge = pb_utils.MetricFamily.COUNTER, pb_utils.MetricFamily.GAUGE
        fills = pb_utils.MetricFamily("nexus_fills_total", "Fills that have ended", counter)
        memory = pb_utils.MetricFamily(
            "nexus_network_out_of_memory_total", "Calls for which a network had no memory", counter
        )
        left_out = pb_utils.MetricFamily(
            "nexus_fill_tier_left_out", "1 while a tier is left out because it was out of memory", gauge
        )
        self._families = fills, memory, left_out  # a family lives as long as its Python object
        # All of them now, so that a scrape before the first event reads zeros: a rate begins with the value before it.
        self._ok = {tier: fills.Metric(labels={"model": tier, "outcome": "ok"}) for tier in tiers}
        kinds: list[type[PipelineError]] = [PipelineError, *PipelineError.__subclasses__()]
        self._ended = {
            outcome: fills.Metric(labels={"model": NONE, "outcome": outcome})
            for outcome in dict.fromkeys(kind.outcome for kind in kinds)
        }
        self._memory = {name: memory.Metric(labels={"network": name}) for name in networks}
        self._left_out = {tier: left_out.Metric(labels={"model": tier}) for tier in tiers}

    def painted(self, model: str, breaker_open: Mapping[str, bool]) -> None:
        """Count a fill that the tier `model` painted, and show the tiers whose breaker is open after it."""
        self._ok[model].increment(1)
        self._show(breaker_open)

    def ended(self, error: Exception, breaker_open: Mapping[str, bool]) -> None:
        """Count a fill that an error ended, and show the tiers whose breaker is open after it."""
        kind = type(error) if isinstance(error, PipelineError) else PipelineError
        self._ended[kind.outcome].increment(1)
        self._show(breaker_open)

    def out_of_memory(self, network: str) -> None:
        """Count a call for which `network` had no memory."""
        self._memory[network].increment(1)

    def _show(self, breaker_open: Mapping[str, bool]) -> None:
        for tier, is_open in breaker_open.items():
            self._left_out[tier].set(float(is_open))
