"""Recognise persons in video by face, voice and body: the package behind the recipe's stages.

    import vidperson
    app = vidperson.load()
    app.compare("a.jpg", "b.jpg")

docs/python.md has more. ``import vidperson`` costs nothing: what computes is imported when a name of it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidperson.app import App, Comparison, Face, Gallery, Settings, load
    from vidperson.errors import DataError, VidPersonError

__version__ = "0.1.0"
__all__ = ["App", "Comparison", "DataError", "Face", "Gallery", "Settings", "VidPersonError", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'vidperson' has no attribute '{name}'")
    from vidperson import app, errors

    return getattr(errors if name.endswith("Error") else app, name)
