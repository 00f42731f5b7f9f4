from nexus_ensembles import smart_remove
from nexus_ensembles.triton.unary import UnaryPipeline


class TritonPythonModel(UnaryPipeline):
    """Serves nexus_ensembles.smart_remove."""

    run = smart_remove.run
