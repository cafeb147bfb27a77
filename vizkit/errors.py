"""Every error that vizkit raises on purpose.

All of them are a `VizkitError`; each is also the builtin that a caller would think of catching. A message says what was
given, what was expected, and what to do.

    VizkitError
        InputError               (ValueError)   an argument has the wrong type, shape or value
        ImageReadError           (OSError)      an image cannot be read
        ModelNotFoundError       (LookupError)  no network of that name
        LayerNotFoundError       (LookupError)  no layer of that name in the network
        WeightsError             (RuntimeError) weights are missing, unreadable or do not fit
        MethodNotApplicableError (ValueError)   an evidence method would be wrong on this network
        MissingEncoderError      (RuntimeError) the question needs a network and there is none
        StoreError               (RuntimeError) a store on disk cannot be used
"""

import difflib
from collections.abc import Iterable


class VizkitError(Exception):
    """Base of every error that vizkit raises on purpose."""


class InputError(VizkitError, ValueError):
    """An argument has the wrong type, shape or value."""


class ImageReadError(VizkitError, OSError):
    """An image cannot be read."""


class ModelNotFoundError(VizkitError, LookupError):
    """No network of that name is known."""


class LayerNotFoundError(VizkitError, LookupError):
    """The network has no layer of that name, or the layer cannot be used."""


class WeightsError(VizkitError, RuntimeError):
    """Weights are missing, unreadable or do not fit the network."""


class MethodNotApplicableError(VizkitError, ValueError):
    """An evidence method would be wrong on this network, so it refuses."""


class MissingEncoderError(VizkitError, RuntimeError):
    """The question needs the network behind the vectors, and there is none."""


class StoreError(VizkitError, RuntimeError):
    """A store on disk cannot be read or written."""


def closest(name: str, known: Iterable[str], n: int = 3) -> str:
    """Return a phrase naming the known names nearest to `name`, or an empty string where none is near."""
    near = difflib.get_close_matches(name, list(known), n=n, cutoff=0.5)
    return f" Closest: {', '.join(repr(x) for x in near)}." if near else ""
