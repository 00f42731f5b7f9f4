from nexus_ensembles import segment
from nexus_ensembles.triton.unary import UnaryPipeline


class TritonPythonModel(UnaryPipeline):
    """Serves nexus_ensembles.segment."""

    run = segment.run
