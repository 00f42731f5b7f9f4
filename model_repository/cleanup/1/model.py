from nexus_ensembles import cleanup
from nexus_ensembles.triton.unary import UnaryPipeline


class TritonPythonModel(UnaryPipeline):
    """Serves nexus_ensembles.cleanup."""

    run = cleanup.run
