"""Figures as files: SVG with tooltips, the same bytes for the same numbers, and PNG on request."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from compress.runs import write_atomically

RENDERING: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: smaller files that can be searched and read out
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # Verdana has nearly the same widths
}
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
REFERRING = (f"{{{XLINK}}}href", "clip-path", "style")  # attributes that refer to elements by their id
REFERENCE = re.compile(r"(?<=url\(#)[^)]+|(?<=^#).+")
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


def svg(figure: Figure) -> bytes:
    """The figure as SVG. Every artist that has a gid gets it as its tooltip, a `<title>`.

    The bytes depend on what is drawn alone, not on the machine. Ids are unique to the drawing, so that an HTML page can
    contain several.
    """
    root = ElementTree.fromstring(_rendered(figure, "svg", metadata={"Date": None}))
    for metadata in root.findall(f"{{{SVG}}}metadata"):  # matplotlib's version
        root.remove(metadata)
    _insert_titles(root, [gid for artist in figure.findobj() if (gid := artist.get_gid())])
    _rename_ids(root, "i")
    digest = hashlib.sha256(ElementTree.tostring(root)).hexdigest()
    _rename_ids(root, f"i{digest[:8]}-")
    document: bytes = ElementTree.tostring(root, encoding="utf-8")
    return document + b"\n"


def save(figure: Figure, path: Path, *, png: bool = False) -> None:
    """Write the figure as `path` with the suffix .svg, and if `png` also as .png at 150 dots per inch."""
    write_atomically(path.with_suffix(".svg"), svg(figure))
    if png:
        write_atomically(path.with_suffix(".png"), _rendered(figure, "png", dpi=150))


def _rendered(figure: Figure, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context(RENDERING):
        FigureCanvasAgg(figure)
        if figure.get_layout_engine() is not None:  # laid out once for all formats: that takes longest
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(buffer, format=form, **options)
    return buffer.getvalue()


def _insert_titles(root: ElementTree.Element, texts: Sequence[str]) -> None:
    """Give each group whose id is one of the texts a title with this text."""
    titles = {text.replace("\n", " "): text for text in texts}  # as XML reads line breaks in attributes
    for group in root.iter(f"{{{SVG}}}g"):
        if (text := titles.get(group.get("id", ""))) is not None:
            title = ElementTree.Element(f"{{{SVG}}}title")
            title.text, title.tail = text, group.text
            group.insert(0, title)
            group.set("pointer-events", "all")  # inside hollow markers, too


def _rename_ids(root: ElementTree.Element, prefix: str) -> None:
    """Number the ids that are referred to, in the order of references, behind a prefix; remove all others.

    Matplotlib's end in a digest of all digits of what they stand for, the last of which differ from CPU to CPU.
    """
    values = [element.get(name, "") for element in root.iter() for name in REFERRING]
    used = dict.fromkeys(id for value in values for id in REFERENCE.findall(value))
    names = {id: f"{prefix}{number}" for number, id in enumerate(used, start=1)}
    for element in root.iter():
        id = element.attrib.pop("id", None)
        if id in names:
            element.set("id", names[id])
        for name in REFERRING:
            if name in element.attrib:
                element.set(name, REFERENCE.sub(lambda found: names[found[0]], element.attrib[name]))
