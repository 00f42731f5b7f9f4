from nexus_ensembles.triton_stream import StreamingPipeline


class TritonPythonModel(StreamingPipeline):
    """Serves nexus_ensembles.generative_fill."""
