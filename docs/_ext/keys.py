"""Links from every key that a page names as code to its entry in the reference."""

from __future__ import annotations

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.typing import ExtensionMetadata

from denoise5d.config.models import SECTIONS

KEYS = {
    ".".join((*place, key))
    for place, model in SECTIONS.items()
    for key in model.model_fields
    if place and (*place, key) not in SECTIONS
}


class _LinkKeys(SphinxTransform):
    """Turns ``cluster.jobs`` and ``cluster.jobs: 4`` into links."""

    default_priority = 500

    def apply(self) -> None:
        """Wrap the code of keys; other code, and code that is a link already, stays."""
        for code in list(self.document.findall(nodes.literal)):
            key = code.astext().partition(":")[0]
            if key not in KEYS or isinstance(code.parent, nodes.reference):
                continue
            link = addnodes.pending_xref(
                "", refdomain="std", reftype="confval", reftarget=key, refdoc=self.env.docname,
                refexplicit=True, refwarn=True,
            )  # fmt: skip
            code.replace_self(link)
            link += code


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the links."""
    app.add_transform(_LinkKeys)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
