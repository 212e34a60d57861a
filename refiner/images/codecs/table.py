"""The table of file formats: a record for each. To add a format, add a record to `FORMATS`.

A few more are read Pillow's way, and not written: see `refiner.images.formats`.
"""

from __future__ import annotations

from refiner.images.codecs import avif, heif, jpeg, jpeg2000, opencv, pillow, png, ppm, tiff, webp
from refiner.images.codecs.format import ANY_MODE, Format

PNG = Format(
    "PNG",
    (".png", ".apng"),
    deep_modes=ANY_MODE,
    metadata=("icc_profile", "exif", "xmp", "dpi"),
    lossless=True,
    decode=opencv.decode,
    write=png.write,
)

FORMATS = (
    PNG,
    Format(
        "TIFF",
        (".tif", ".tiff"),
        modes=(*ANY_MODE, "CMYK"),
        deep_modes=("L", "RGB", "RGBA", "CMYK"),
        metadata=("icc_profile", "exif", "xmp", "dpi"),
        lossless=True,
        count_pages=tiff.count_pages,
        turn_page=tiff.turn_page,
        other_pages=tiff.other_pages,
        decode=tiff.decode,
        write=tiff.write,
    ),
    Format(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        other_names=("MPO",),  # JPEGs with further frames, such as the other eye's
        modes=("L", "RGB", "CMYK"),
        metadata=("icc_profile", "exif", "xmp", "dpi"),
        max_side=65535,
        max_exif=jpeg.MAX_EXIF,
        max_xmp=jpeg.MAX_XMP,
        has_quality=True,
        main_frame=True,
        compression=jpeg.compression,
        write=jpeg.write,
    ),
    Format(
        "WEBP",
        (".webp",),
        modes=("RGB", "RGBA"),
        metadata=("icc_profile", "exif", "xmp"),
        max_side=16383,
        lossless=True,
        has_quality=True,
        write=webp.write,
    ),
    Format(
        "AVIF",
        (".avif", ".avifs"),
        modes=("RGB", "RGBA"),
        metadata=("icc_profile", "exif", "xmp"),
        max_side=65535,
        has_quality=True,
        main_frame=True,
        depth=avif.depth,
        write=avif.write,
        load=lambda: pillow.can_write("AVIF"),  # older builds of Pillow cannot
    ),
    Format(
        "HEIF",
        (".heic", ".heif", ".heics", ".heifs", ".hif"),
        modes=("RGB", "RGBA"),
        deep_modes=("RGB", "RGBA"),
        deep_bits=heif.BITS,
        metadata=("icc_profile", "exif", "xmp", "nclx_profile"),
        max_side=16384,
        has_quality=True,
        main_frame=True,
        depth=heif.depth,
        decode=heif.decode,
        color_space=heif.color_space,
        write=heif.write,
        load=heif.load_plugin,
        extra="formats",
    ),
    Format("BMP", (".bmp",), modes=("L", "RGB"), metadata=("dpi",), lossless=True, write=pillow.plain_writer("BMP")),
    Format(
        "PPM",
        (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
        modes=("L", "RGB"),
        lossless=True,
        depth=ppm.depth,
        decode=ppm.decode,
        write=pillow.plain_writer("PPM"),
    ),
    Format("JPEG2000", (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"), depth=jpeg2000.depth),
    Format("ICO", (".ico",), joint_frames=True),
    Format("ICNS", (".icns",), joint_frames=True),
    Format("PSD", (".psd",), joint_frames=True),
)
