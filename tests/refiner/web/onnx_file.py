"""Small ONNX models, written byte by byte as the format's protobuf has it, so that no further package is needed."""

from __future__ import annotations

import numpy as np


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def tensor(name: str, values: np.ndarray) -> bytes:
    kind = {np.dtype(np.float32): 1, np.dtype(np.int64): 7}[values.dtype]
    dims = b"".join(_field(1, side) for side in values.shape)
    return dims + _field(2, kind) + _field(8, name) + _field(9, values.tobytes())


def value(name: str, shape: tuple[int | str, ...]) -> bytes:
    dims = b"".join(_field(1, _field(1 if isinstance(side, int) else 2, side)) for side in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


def node(kind: str, inputs: list[str], output: str, **attributes: int | str | list[int]) -> bytes:
    made = b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, kind)
    for name, given in attributes.items():
        if isinstance(given, int):
            held = _field(3, given) + _field(20, 2)
        elif isinstance(given, str):
            held = _field(4, given) + _field(20, 3)
        else:
            held = b"".join(_field(8, each) for each in given) + _field(20, 7)
        made += _field(5, _field(1, name) + held)
    return made


def model(nodes: list[bytes], constants: list[bytes], inputs: list[bytes], outputs: list[bytes]) -> bytes:
    graph = b"".join(_field(1, each) for each in nodes) + _field(2, "made")
    for number, group in ((5, constants), (11, inputs), (12, outputs)):
        graph += b"".join(_field(number, each) for each in group)
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


def encoder() -> bytes:
    """Halves a picture (1,3,64,64) twice."""
    pool = node("AveragePool", ["images"], "embeddings", kernel_shape=[4, 4], strides=[4, 4])
    return model([pool], [], [value("images", (1, 3, 64, 64))], [value("embeddings", (1, 3, 16, 16))])


def decoder() -> bytes:
    """Takes for the object what is brighter than the mean color of photos, where the first click has a plus."""
    nodes = [
        node("ReduceSum", ["image_embeddings", "channels"], "bright", keepdims=1),
        node("Cast", ["orig_im_size"], "size", to=7),
        node("Concat", ["one_one", "size"], "shape", axis=0),
        node("Resize", ["bright", "", "", "shape"], "large", mode="linear"),
        node("ReduceMax", ["point_labels"], "sign", axes=[0, 1], keepdims=0),
        node("Mul", ["large", "sign"], "masks"),
    ]
    constants = [
        tensor("channels", np.array([1], np.int64)),
        tensor("one_one", np.array([1, 1], np.int64)),
        tensor("iou_predictions", np.array([[0.9]], np.float32)),
    ]
    inputs = [
        value("image_embeddings", (1, 3, 16, 16)),
        value("point_coords", (1, "n", 2)),
        value("point_labels", (1, "n")),
        value("orig_im_size", (2,)),
    ]
    return model(nodes, constants, inputs, [value("masks", (1, 1, "h", "w")), value("iou_predictions", (1, 1))])
