from nexus_ensembles.generative_fill import GenerativeFill
from nexus_ensembles.triton.streaming import StreamingPipeline


class TritonPythonModel(StreamingPipeline):
    """Serves nexus_ensembles.generative_fill."""

    pipeline = GenerativeFill
