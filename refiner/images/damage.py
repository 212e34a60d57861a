"""Files that are damaged: what decoders raise on them, and the one line that says so."""

from __future__ import annotations

import struct
import zlib

from refiner.errors import InputError, first_line

# Pillow's decoders raise almost anything on a damaged file.
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, MemoryError, ArithmeticError, RuntimeError,
    AttributeError, AssertionError, struct.error, zlib.error,
)  # fmt: skip


def damaged(name: object, error: BaseException, role: str) -> InputError:
    """The error for a damaged file.

    Args:
        name: of the file.
        error: what the decoder raised.
        role: what the file is for: `image` or `mask`.
    """
    return InputError(f"{name}: is damaged or cut short ({first_line(error)}); expected a whole {role} file.")
