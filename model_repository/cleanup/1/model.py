from nexus_ensembles import cleanup
from nexus_ensembles.triton import UnaryPipeline


class TritonPythonModel(UnaryPipeline):
    """Serves nexus_ensembles.cleanup."""

    run = cleanup.run
