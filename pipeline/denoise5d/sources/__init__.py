"""Images in the formats of microscopes and programs, each read box by box as 5-D TCZYX.

A module a format gives a class of `denoise5d.store.Image`, and a function that opens it. Which one
it is, the first bytes of a file say. Packages that not everybody needs are imported when a file
needs them.
"""

from denoise5d.sources.opening import open_source
from denoise5d.sources.readers import installed_readers

__all__ = ["installed_readers", "open_source"]
