"""Select an object by clicks with the user's own segmentation model: the SAM family's encoder and decoder, as ONNX.

The encoder takes one picture, as (1,3,S,S) normalized like ImageNet and padded on the right and below, or as raw
(h,w,3) of 0 to 255. The decoder takes what segment-anything's own export names: `image_embeddings`, `point_coords`,
`point_labels`, `mask_input`, `has_mask_input`, `orig_im_size`; it gives masks and how good it takes them to be.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from refiner.errors import InputError, Option, first_line
from refiner.images.screen import to_size

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

    from numpy.typing import NDArray

    from refiner.images.planes import Mask, Pixels
    from refiner.web.clicked import Click

_SIDE = 1024  # longer side in pixels of a picture for an encoder that does not say
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_SPREAD = np.array([58.395, 57.12, 57.375], np.float32)
_LOW = 256  # side of the mask of an earlier answer, which is not used
_PADDING = -1  # label of the point that stands for no box
_KEPT = 4  # pictures whose encoding is kept
_CHANNELS = 4  # dimensions of an input with its channels first


class Segmenter:
    """Selects objects with a model; safe to use from several threads.

    Args:
        encoder: the encoder's file. The decoder's lies beside it, called the same with `decoder` for `encoder`.

    Raises:
        InputError: a file is missing or no such model, or ONNX Runtime is not installed.
    """

    def __init__(self, encoder: Path) -> None:
        decoder = encoder.with_name(encoder.name.replace("encoder", "decoder"))
        if not encoder.is_file():
            raise InputError(Option("segmenter"), f": {encoder}: no such file; expected the encoder as ONNX.")
        if decoder == encoder or not decoder.is_file():
            raise InputError(
                Option("segmenter"),
                f": {encoder}: expected a name with `encoder` in it, and beside it the same name with `decoder`.",
            )
        self._encoder, self._decoder = (_session(path) for path in (encoder, decoder))
        wanted = {each.name for each in self._decoder.get_inputs()}
        if not {"image_embeddings", "point_coords", "point_labels"} <= wanted:
            raise InputError(Option("segmenter"), f": {decoder}: is no decoder of the SAM family; see docs/web.md.")
        self._wanted = wanted
        self._lock = threading.Lock()
        self._encoded: OrderedDict[Hashable, NDArray[np.float32]] = OrderedDict()

    def clicked(self, key: Hashable, pixels: Pixels, clicks: list[Click]) -> Mask:
        """The mask (h,w) of the object that clicks mark.

        Args:
            key: stands for the picture: its encoding is kept for further clicks.
            pixels: (h,w,3) in sRGB.
            clicks: on it, at least one with plus.

        Raises:
            InputError: no click has a plus, or the model fails.
        """
        if not any(click.plus for click in clicks):
            raise InputError("Nothing is clicked on; click on the object first.")
        height, width = pixels.shape[:2]
        share = self._side / max(height, width)
        places = [[(click.x + 0.5) * share, (click.y + 0.5) * share] for click in clicks]
        labels = [float(click.plus) for click in clicks]
        given = {
            "image_embeddings": None,
            "point_coords": np.array([[*places, [0, 0]]], np.float32),
            "point_labels": np.array([[*labels, _PADDING]], np.float32),
            "mask_input": np.zeros((1, 1, _LOW, _LOW), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array([height, width], np.float32),
        }
        try:
            with self._lock:
                given["image_embeddings"] = self._encoding(key, pixels)
                found = self._decoder.run(None, {name: given[name] for name in self._wanted})
        except Exception as error:  # the runtime has a dozen kinds of errors, and no base class for them
            raise InputError(f"The segmentation model failed: {first_line(error)}.") from error
        masks, scores = found[0], np.asarray(found[1]).ravel()
        best = np.asarray(masks).reshape(-1, *np.shape(masks)[-2:])[int(scores.argmax())] > 0
        if best.shape == (height, width):
            return np.asarray(best)
        return to_size(best, (height, width), "nearest")

    @property
    def _side(self) -> int:
        side = self._encoder.get_inputs()[0].shape[-1]
        return side if self._has_channels_first and isinstance(side, int) else _SIDE

    @property
    def _has_channels_first(self) -> bool:
        return len(self._encoder.get_inputs()[0].shape) == _CHANNELS

    def _encoding(self, key: Hashable, pixels: Pixels) -> NDArray[np.float32]:
        if key not in self._encoded:
            height, width = pixels.shape[:2]
            share = self._side / max(height, width)
            size = max(round(height * share), 1), max(round(width * share), 1)
            scaled = to_size(pixels, size, "linear").astype(np.float32)
            if self._has_channels_first:
                padded = np.zeros((self._side, self._side, 3), np.float32)
                padded[: size[0], : size[1]] = (scaled - _MEAN) / _SPREAD
                scaled = np.ascontiguousarray(padded.transpose(2, 0, 1)[None])
            name = self._encoder.get_inputs()[0].name
            self._encoded[key] = self._encoder.run(None, {name: scaled})[0]
            while len(self._encoded) > _KEPT:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(key)
        return self._encoded[key]


def _session(path: Path) -> Any:
    try:
        import onnxruntime  # noqa: PLC0415  an extra
    except ImportError:
        hint = ': needs ONNX Runtime: pip install "refiner-inpainting[segmenter]".'
        raise InputError(Option("segmenter"), hint) from None
    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a dozen kinds of errors, and no base class for them
        raise InputError(
            Option("segmenter"), f": {path}: is no ONNX model that can be read ({first_line(error)})."
        ) from error
