from nexus_ensembles import remove_background
from nexus_ensembles.triton.unary import UnaryPipeline


class TritonPythonModel(UnaryPipeline):
    """Serves nexus_ensembles.remove_background."""

    run = remove_background.run
