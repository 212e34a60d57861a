"""XMP metadata: what describes the photo is kept, what describes its file or its editing is not.

An XMP packet is XML. Rights, creators, captions, keywords, places and ratings are as true of a result as of its photo.
Orientation, crops and adjustments would be applied once more, thumbnails would show what was removed, and histories and
identifiers belong to the photo's own file.
"""

from __future__ import annotations

from typing import NamedTuple
from xml.etree import ElementTree as ET

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_META = "adobe:ns:meta/"
_XML = "http://www.w3.org/XML/1998/namespace"
_ALL = frozenset[str]()
# Namespaces, each with its usual prefix and the properties that are kept.
_KEPT: dict[str, tuple[str, frozenset[str]]] = {
    "http://purl.org/dc/elements/1.1/": (
        "dc",
        frozenset({"contributor", "coverage", "creator", "date", "description", "language", "publisher"})
        | {"rights", "source", "subject", "title", "type"},
    ),
    "http://ns.adobe.com/xap/1.0/rights/": ("xmpRights", _ALL),
    "http://ns.adobe.com/xap/1.0/": ("xmp", frozenset({"Rating", "Label", "CreateDate", "Nickname"})),
    "http://ns.adobe.com/photoshop/1.0/": (
        "photoshop",
        frozenset({"AuthorsPosition", "CaptionWriter", "Category", "City", "Country", "Credit", "DateCreated"})
        | {"Headline", "Instructions", "Source", "State", "SupplementalCategories", "TransmissionReference", "Urgency"},
    ),
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": ("Iptc4xmpCore", _ALL),
    "http://ns.useplus.org/ldf/xmp/1.0/": ("plus", _ALL),
    "http://creativecommons.org/ns#": ("cc", _ALL),
}
_NO_PROPERTIES = (f"{{{_RDF}}}about", f"{{{_XML}}}lang")
_PREFIXES = {_RDF: "rdf", _META: "x"} | {uri: prefix for uri, (prefix, _) in _KEPT.items()}


class Xmp(NamedTuple):
    """What is kept of a packet.

    Attributes:
        packet: a packet of what is kept; empty where that is nothing.
        cut: whether something was left out.
    """

    packet: bytes
    cut: bool


def safe_xmp(packet: bytes) -> Xmp:
    """Reduce a packet to what may go into a result.

    Args:
        packet: as in a file. If it is damaged or declares a document type, nothing of it is kept.
    """
    if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:  # entities can make a small packet expand without end
        return Xmp(b"", cut=True)
    try:
        root = ET.fromstring(packet.decode("utf-8", "ignore").strip("\0\ufeff \n"))  # noqa: S314  without entities
    except ET.ParseError:
        return Xmp(b"", cut=True)
    attributes: dict[str, str] = {}
    children: list[ET.Element] = []
    cut = False
    for description in root.iter(f"{{{_RDF}}}Description"):
        attributes |= {name: value for name, value in description.attrib.items() if _is_kept(name)}
        children += [child for child in description if _is_kept(child.tag)]
        cut |= any(not _is_kept(name) for name in description.attrib if name not in _NO_PROPERTIES)
        cut |= any(not _is_kept(child.tag) for child in description)
    return Xmp(_packet(attributes, children) if attributes or children else b"", cut)


def _packet(attributes: dict[str, str], children: list[ET.Element]) -> bytes:
    """Make a packet of properties."""
    meta = ET.Element(f"{{{_META}}}xmpmeta")
    description = ET.SubElement(ET.SubElement(meta, f"{{{_RDF}}}RDF"), f"{{{_RDF}}}Description", attributes)
    description.set(f"{{{_RDF}}}about", "")
    description.extend(children)
    _use_prefixes(meta)
    body = ET.tostring(meta, encoding="unicode")
    return f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{body}<?xpacket end="w"?>'.encode()


def _use_prefixes(root: ET.Element) -> None:
    """Rename `{namespace}name` to `prefix:name` in a whole tree, and declare the prefixes at its root.

    ElementTree has prefixes of its own for the writing, but a single table of them for the whole process.
    """
    declared: dict[str, str] = {}

    def short(name: str) -> str:
        if not name.startswith("{"):
            return name
        uri, _, local = name[1:].partition("}")
        if uri == _XML:  # whose prefix is never declared
            return f"xml:{local}"
        prefix = declared.setdefault(uri, _PREFIXES.get(uri, f"ns{len(declared)}"))
        return f"{prefix}:{local}"

    for element in root.iter():
        element.tag = short(element.tag)
        element.attrib = {short(name): value for name, value in element.attrib.items()}
    for uri, prefix in sorted(declared.items(), key=lambda item: item[1]):
        root.set(f"xmlns:{prefix}", uri)


def _is_kept(name: str) -> bool:
    """Whether a property, named `{namespace}name`, goes into a result."""
    uri, _, local = name.removeprefix("{").partition("}")
    if uri not in _KEPT:
        return False
    names = _KEPT[uri][1]
    return not names or local in names
