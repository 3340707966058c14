"""Formulas as MathML, which browsers draw by themselves: no script, no font, nothing to fetch."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

_BAR = re.compile(r"<mo( [^>]*)?>‖</mo>")  # of a norm: one that grows and its partner that does not look wrong
_log = logging.getLogger(__name__)


def add_to(app: Sphinx) -> None:
    """Registers the renderer ``mathml`` for ``html_math_renderer``."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))


def _inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def _block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{_mathml(node, as_block=True)}</div>')
    raise nodes.SkipNode


def _mathml(node: nodes.math | nodes.math_block, *, as_block: bool) -> str:
    try:
        made = str(tex2mathml(node.astext(), as_block=as_block))
    except MathError as error:
        _log.warning("no MathML for %r: %s", node.astext(), error, location=node)
        return ""
    return _BAR.sub(r'<mo\1 stretchy="false">‖</mo>', made)
