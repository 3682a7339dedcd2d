"""Images in the formats of microscopes and programs, each read box by box as 5-D TCZYX.

A module a format gives a class of `denoise5d.store.Image`, and a function that opens it. Which one
it is, the first bytes of a file say. Packages that not everybody needs are imported when a file
needs them.
"""

from denoise5d.sources.opening import open_source

__all__ = ["open_source"]
