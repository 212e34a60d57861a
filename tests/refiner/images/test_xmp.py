"""XMP data: what speaks of the photo is kept, in every format that holds it, and the rest is left out and told."""

from __future__ import annotations

import io
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from picture_files import noise, saved
from PIL import Image

from refiner.images.picture import Picture
from refiner.images.reading import read_picture
from refiner.images.writing import encode, losses_in
from refiner.images.xmp import safe_xmp

HEAD = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
)
TAIL = '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
SAFE = """
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmp:Rating="4">
 <dc:creator><rdf:Seq><rdf:li>Ada Nilsson</rdf:li></rdf:Seq></dc:creator>
 <dc:rights><rdf:Alt><rdf:li xml:lang="x-default">CC BY \u00e9</rdf:li></rdf:Alt></dc:rights>
 <dc:description><rdf:Alt><rdf:li xml:lang="x-default">An otter &lt; a lake</rdf:li></rdf:Alt></dc:description>
</rdf:Description>"""
LICENSE = """
<rdf:Description rdf:about="" xmlns:cc="http://creativecommons.org/ns#">
 <cc:license>CC BY</cc:license>
</rdf:Description>"""
UNSAFE = """
<rdf:Description rdf:about="uuid:1" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"
 xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" crs:CropLeft="0.25" crs:HasCrop="True"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/">
 <xmp:Thumbnails><rdf:Alt><rdf:li>c2VjcmV0</rdf:li></rdf:Alt></xmp:Thumbnails>
 <xmpMM:History><rdf:Seq><rdf:li>cropped</rdf:li></rdf:Seq></xmpMM:History>
</rdf:Description>"""
LEFT_OUT = (b"Orientation", b"Crop", b"Thumbnails", b"c2VjcmV0", b"History", b"uuid:1")


def packet(*descriptions: str) -> bytes:
    return (HEAD + "".join(descriptions) + TAIL).encode()


def texts(xmp: bytes) -> list[str]:
    return [text.strip() for text in ET.fromstring(xmp.decode()).itertext() if text.strip()]  # noqa: S314  our own


def test_safe_properties_are_kept_and_nothing_else() -> None:
    kept = safe_xmp(packet(SAFE, UNSAFE))
    assert kept.cut
    assert texts(kept.packet) == ["Ada Nilsson", "CC BY \u00e9", "An otter < a lake"]
    assert b'xmp:Rating="4"' in kept.packet
    assert not any(words in kept.packet for words in LEFT_OUT)
    assert safe_xmp(kept.packet) == (kept.packet, False), "it is a packet itself, with nothing more to leave out"


def test_the_prefixes_of_the_process_are_left_alone() -> None:
    """ElementTree has one table of them, and gives a prefix to whoever registers it last."""
    ET.register_namespace("cc", "urn:of-somebody-else")
    try:
        kept = safe_xmp(packet(SAFE, LICENSE))
        assert ET.tostring(ET.Element("{urn:of-somebody-else}a")).startswith(b"<cc:a ")
    finally:
        del ET._namespace_map["urn:of-somebody-else"]
    assert b"<cc:license>" in kept.packet


def test_other_namespaces_inside_what_is_kept_are_declared() -> None:
    inner = "<x:a xmlns:x='urn:x' x:b='1' c='2'><y:a xmlns:y='urn:y'/></x:a>"
    kept = safe_xmp(packet(SAFE.replace("Ada Nilsson", f"Ada Nilsson{inner}")))
    root = ET.fromstring(kept.packet.decode())  # noqa: S314  our own
    (found,) = root.iter("{urn:x}a")
    assert (found.attrib, found[0].tag) == ({"{urn:x}b": "1", "c": "2"}, "{urn:y}a")


def test_nothing_is_told_where_all_is_kept() -> None:
    assert not safe_xmp(packet(SAFE)).cut


@pytest.mark.parametrize(
    "broken",
    [
        packet(UNSAFE),
        packet(SAFE)[:200],
        b"\xff\xfe\x00",
        b"<a>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + packet(SAFE),
        packet(),
    ],
)
def test_what_has_nothing_safe_or_cannot_be_read_is_left_out_whole(broken) -> None:
    kept = safe_xmp(broken)
    assert kept.packet == b""
    assert kept.cut == (broken != packet())


def written(tmp_path, source: str):
    """A photo with XMP data, as Pillow or we write it."""
    if source == "heic":
        image = Image.fromarray(noise(16, 16, 3))
        path = tmp_path / "in.heic"
        path.write_bytes(encode(Picture(np.asarray(image), metadata={"xmp": packet(SAFE, UNSAFE)}), path))
        return path
    if source in ("webp", "avif"):
        return saved(tmp_path, Image.fromarray(noise(16, 16, 3)), f"in.{source}", xmp=packet(SAFE, UNSAFE))
    path = tmp_path / f"in.{source}"
    path.write_bytes(encode(Picture(noise(16, 16, 3), metadata={"xmp": packet(SAFE, UNSAFE)}), path))
    return path


@pytest.mark.parametrize("source", ["jpg", "png", "tif", "webp", "avif", "heic"])
def test_every_format_that_holds_xmp_keeps_what_is_safe(tmp_path, source) -> None:
    picture = read_picture(written(tmp_path, source))
    for suffix in ("jpg", "png", "tif", "webp", "avif", "heic"):
        path = tmp_path / f"out.{suffix}"
        path.write_bytes(encode(picture, path))
        data = path.read_bytes()
        assert b"Ada Nilsson" in data, suffix
        assert not any(words in data for words in LEFT_OUT), suffix
        assert texts(read_picture(path).metadata["xmp"]) == ["Ada Nilsson", "CC BY \u00e9", "An otter < a lake"], suffix
        (line,) = (line for line in losses_in(picture, path) if "XMP" in line)
        assert "rights, creators, captions and ratings are kept" in line


def test_16_bit_files_keep_it_too(tmp_path) -> None:
    for suffix in ("png", "tif"):
        path = tmp_path / f"deep.{suffix}"
        path.write_bytes(encode(Picture(noise(9, 8, 3, depth=16), metadata={"xmp": packet(SAFE)}), path))
        again = read_picture(path)
        assert again.depth == 16
        assert texts(again.metadata["xmp"])[0] == "Ada Nilsson"
        assert losses_in(again, path) == []


def test_formats_without_xmp_say_so(tmp_path) -> None:
    picture = Picture(noise(9, 8, 3), metadata={"xmp": packet(SAFE)})
    (line,) = losses_in(picture, tmp_path / "out.bmp")
    assert "BMP cannot hold the photo's XMP data" in line
    encode(picture, tmp_path / "out.bmp")


def test_more_than_a_jpegs_segment_holds_is_told_and_left_out(tmp_path) -> None:
    long = SAFE.replace("An otter", "otter " * 12000)
    picture = Picture(noise(9, 8, 3), metadata={"xmp": packet(long)})
    assert any("JPEG cannot hold the photo's XMP data" in line for line in losses_in(picture, tmp_path / "out.jpg"))
    assert Image.open(io.BytesIO(encode(picture, tmp_path / "out.jpg"))).size == (8, 9)
