"""The kernels in Triton, which reads each tensor once and writes each once.

A picture is seen as rows of `inner` elements side by side: its channels where it lies channels-last, else 1. Numbers of
16 bits are computed in float32, `wide`.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def gate(
    x, other, bits, count, inner, stride, low: tl.constexpr, high: tl.constexpr, slope: tl.constexpr,
    bounded: tl.constexpr, summed: tl.constexpr, wide: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Eight elements of x, or of its sum with rows of `inner` out of `stride` elements, become one byte."""
    byte = tl.program_id(0) * block + tl.arange(0, block)
    bit = tl.arange(0, 8)[None, :]
    place = byte[:, None] * 8 + bit
    inside = place < count
    value = tl.load(x + place, mask=inside, other=0)
    kind = value.dtype
    value = value.to(wide)
    if summed:
        row = place // inner
        added = tl.load(other + row * stride + (place - row * inner), mask=inside, other=0)
        value = (value + added.to(wide)).to(kind).to(wide)
    # As written to memory: the output is compared with the bounds in its own precision.
    lowest = tl.full([1, 1], low, wide).to(kind).to(wide)
    highest = tl.full([1, 1], high, wide).to(kind).to(wide)
    if slope != 0:
        value = tl.where(value > 0, value, value * tl.full([1, 1], slope, wide)).to(kind).to(wide)
    else:
        value = tl.where(value <= lowest, lowest, value)  # which keeps NaN
        if bounded:
            value = tl.where(value >= highest, highest, value)
    if bounded:
        passed = (value > lowest) & (value < highest)
    elif slope == 0 and low == 0:
        passed = value != 0  # NaN too, as in PyTorch's ReLU
    else:
        passed = value > lowest
    tl.store(x + place, value.to(kind), mask=inside)
    packed = tl.sum(tl.where(passed & inside, 1, 0) << bit, axis=1)
    tl.store(bits + byte, packed.to(tl.uint8), mask=byte * 8 < count)


@triton.jit
def ungate(grad, bits, back, count, slope: tl.constexpr, wide: tl.constexpr, block: tl.constexpr):
    """The gradient where its bit is set; scaled, or zero, elsewhere."""
    byte = tl.program_id(0) * block + tl.arange(0, block)
    bit = tl.arange(0, 8)[None, :]
    place = byte[:, None] * 8 + bit
    inside = place < count
    packed = tl.load(bits + byte, mask=byte * 8 < count, other=0).to(tl.int32)
    passed = ((packed[:, None] >> bit) & 1) != 0
    value = tl.load(grad + place, mask=inside, other=0)
    scaled = tl.full([1, 1], 0.0, wide)
    if slope != 0:
        scaled = value.to(wide) * tl.full([1, 1], slope, wide)
    tl.store(back + place, tl.where(passed, value, scaled.to(value.dtype)), mask=inside)


@triton.jit
def _from_border(at, before, length, reflects: tl.constexpr):
    """Where along a side of `length` a place of the padded side comes from."""
    at -= before
    if reflects:
        at = tl.where(at < 0, -at, at)
        return tl.where(at >= length, 2 * (length - 1) - at, at)
    at = tl.where(at < 0, 0, at)
    return tl.where(at >= length, length - 1, at)


# One compilation for all sizes; of what lies side by side it is worth knowing whether 16 divides it.
_SIZES = ["height", "width", "left", "top", "right", "bottom"]


@triton.jit(do_not_specialize=_SIZES)
def pad(
    x, padded, height, width, inner, left, top, right, bottom, reflects: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """A row of a padded picture."""
    padded_height, padded_width = height + top + bottom, width + left + right
    row = tl.program_id(0)
    picture = row // padded_height
    source = (picture * height + _from_border(row - picture * padded_height, top, height, reflects)) * width
    place = tl.program_id(1) * block + tl.arange(0, block)
    inside = place < padded_width * inner
    column = place // inner
    whole = (column >= left) & (column < left + width)
    # Apart from the border elements lie as they did, so that many are read at once.
    kept = tl.load(x + (source - left) * inner + place, mask=inside & whole, other=0)
    away = _from_border(column, left, width, reflects)
    border = tl.load(x + (source + away) * inner + (place - column * inner), mask=inside & ~whole, other=0)
    tl.store(padded + row * padded_width * inner + place, tl.where(whole, kept, border), mask=inside)


@triton.jit
def _to_border(turn: tl.constexpr, at, before, length, after, reflects: tl.constexpr, ahead: tl.constexpr):
    """Where along a padded side the `turn`-th value lies that came from a place, and whether there is one.

    Turn 0 is the place itself. By reflection, 1 and 2 lie beyond the near and the far end. By replication, as many as
    the near border is wide, `ahead`, and then those of the far one.
    """
    if turn == 0:
        return at + before, at >= 0
    if reflects:
        if turn == 1:
            return before - at, (at >= 1) & (at <= before)
        return before + 2 * (length - 1) - at, (at <= length - 2) & (at >= length - 1 - after)
    if turn <= ahead:
        return at * 0 + (turn - 1), at == 0
    return at * 0 + before + length + (turn - 1 - ahead), at == length - 1


@triton.jit(do_not_specialize=_SIZES)
def unpad(
    grad, back, height, width, inner, left, top, right, bottom, reflects: tl.constexpr, wide: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr, above: tl.constexpr, before: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """A row of the gradient: all that was made of each place, added up.

    That is at most `rows` times `columns` values; by replication, `above` and `before` tell the near border's part.
    """
    padded_height, padded_width = height + top + bottom, width + left + right
    row = tl.program_id(0)
    picture = row // height
    place = tl.program_id(1) * block + tl.arange(0, block)
    inside = place < width * inner
    column = place // inner
    channel = place - column * inner
    total = tl.zeros([block], wide)
    for i in tl.static_range(rows):
        line, used = _to_border(i, row - picture * height, top, height, bottom, reflects, above)
        if used:
            start = (picture * padded_height + line) * padded_width
            # The place itself, apart: such elements lie as they will, so that many are read at once.
            folded = tl.load(grad + (start + left) * inner + place, mask=inside, other=0).to(wide)
            for j in tl.static_range(1, columns):
                away, there = _to_border(j, column, left, width, right, reflects, before)
                source = grad + (start + away) * inner + channel
                folded += tl.load(source, mask=inside & there, other=0).to(wide)
            total += folded
    tl.store(back + row * width * inner + place, total.to(back.dtype.element_ty), mask=inside)


@triton.jit
def _weights(column, width, size, inward: tl.constexpr, wide: tl.constexpr):
    """What columns of a half spectrum are multiplied by: `norm="ortho"`, and `inward` those that stand for two."""
    norm = 1 / tl.sqrt(size.to(wide))
    return tl.where((column >= 1) & (column < (width + 1) // 2), norm * inward, norm)


@triton.jit(do_not_specialize=_SIZES)
def stack(
    spectrum, stacked, channels, height, width, inward: tl.constexpr, wide: tl.constexpr,
    places: tl.constexpr, planes: tl.constexpr,
):  # fmt: skip
    """A half spectrum (N,C,H,W//2+1) of pairs, weighted, to (N,H,W//2+1,2C)."""
    half = width // 2 + 1
    count = height * half
    place = tl.program_id(0) * places + tl.arange(0, places)[None, :]
    plane = tl.program_id(1) * planes + tl.arange(0, planes)[:, None]
    picture = tl.program_id(2)
    source = spectrum + ((picture * channels + plane) * count + place) * 2
    inside = (plane < channels) & (place < count)
    weight = _weights(place % half, width, height * width, inward, wide)
    real = tl.load(source, mask=inside, other=0) * weight
    imaginary = tl.load(source + 1, mask=inside, other=0) * weight
    made = tl.reshape(tl.join(tl.trans(real), tl.trans(imaginary)), [places, 2 * planes])
    place = tl.program_id(0) * places + tl.arange(0, places)[:, None]
    part = tl.program_id(1) * 2 * planes + tl.arange(0, 2 * planes)[None, :]
    target = stacked + (picture * count + place) * 2 * channels + part
    tl.store(target, made, mask=(place < count) & (part < 2 * channels))


@triton.jit(do_not_specialize=_SIZES)
def unstack(
    stacked, spectrum, channels, height, width, inward: tl.constexpr, wide: tl.constexpr,
    places: tl.constexpr, planes: tl.constexpr,
):  # fmt: skip
    """(N,H,W//2+1,2C) to the half spectrum (N,C,H,W//2+1) of a real picture, of pairs, weighted.

    Columns that hold both ends of the symmetry get the mean of the two, where inverse transforms differ otherwise.
    """
    half = width // 2 + 1
    count = height * half
    place = tl.program_id(0) * places + tl.arange(0, places)[:, None]
    part = tl.program_id(1) * 2 * planes + tl.arange(0, 2 * planes)[None, :]
    picture = tl.program_id(2)
    row = place // half
    column = place - row * half
    inside = (place < count) & (part < 2 * channels)
    end = (column == 0) | (column * 2 == width)
    source = stacked + picture * count * 2 * channels + part
    given = tl.load(source + place * 2 * channels, mask=inside, other=0).to(wide)
    opposite = tl.where(row == 0, 0, height - row) * half + column
    other = tl.load(source + opposite * 2 * channels, mask=inside & end, other=0).to(wide)
    other = tl.where(part % 2 == 0, other, -other)
    made = tl.where(end, (given + other) * 0.5, given) * _weights(column, width, height * width, inward, wide)
    real, imaginary = tl.split(tl.reshape(made, [places, planes, 2]))
    pairs = tl.reshape(tl.join(tl.trans(real), tl.trans(imaginary)), [planes, 2 * places])
    plane = tl.program_id(1) * planes + tl.arange(0, planes)[:, None]
    number = tl.program_id(0) * 2 * places + tl.arange(0, 2 * places)[None, :]
    target = spectrum + (picture * channels + plane) * 2 * count + number
    tl.store(target, pairs, mask=(plane < channels) & (number < 2 * count))


@triton.jit
def last(x, back, channels, count, places: tl.constexpr, planes: tl.constexpr):
    """(N,C,P) to (N,P,C)."""
    place = tl.program_id(0) * places + tl.arange(0, places)
    plane = tl.program_id(1) * planes + tl.arange(0, planes)
    picture = tl.program_id(2)
    source = x + (picture * channels + plane[:, None]) * count + place[None, :]
    value = tl.load(source, mask=(plane[:, None] < channels) & (place[None, :] < count), other=0)
    target = back + (picture * count + place[:, None]) * channels + plane[None, :]
    tl.store(target, tl.trans(value), mask=(place[:, None] < count) & (plane[None, :] < channels))
