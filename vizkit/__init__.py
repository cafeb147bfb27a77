"""See what a network sees when it says that two images are alike."""

import importlib
from typing import Any

__version__ = "0.1.0"

# No module may carry the name of a public function: importing `vizkit.x` would put the module where the function was.
_HOME = {
    "ImageSet": "images",
    "scenes": "synthetic",
    "Encoder": "encoders",
    "Embeddings": "embeddings",
    "embed": "extraction",
    "neighbors": "knn",
    "neighbor_graph": "graph",
    "project": "projection",
    "Layout": "layout",
    "check_map": "faithfulness",
    "compare_maps": "map_comparison",
    "place": "placing",
    "explain": "saliency.questions",
    "explain_pair": "saliency.questions",
    "explain_many": "saliency.questions",
    "explaining": "saliency.questions",
    "explain_contrast": "saliency.questions",
    "trust": "saliency.trust",
    "check_preprocess": "studies.preprocessing",
    "explore": "widgets.explorer",
    "tune_map": "widgets.map_panel",
    "VizkitError": "errors",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: `import vizkit` alone loads neither torch nor umap nor plotly."""
    if name not in _HOME:
        raise AttributeError(f"module 'vizkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"vizkit.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
