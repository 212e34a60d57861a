"""Fills and their scores, picture by picture, kept on disk so that a run can stop and go on."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.quality.scores import score
from refiner.errors import InputError
from refiner.files import make_folder, write_atomic
from refiner.images.picture import from_rgb
from refiner.images.reading import read_picture
from refiner.images.writing import encode
from refiner.photo import read_photo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.quality.cases import Case
    from benchmarks.quality.fills import Method
    from benchmarks.quality.scores import Inception, Perceptual
    from refiner.images.pairs import Pair


class Bench:
    """Measures methods on cases; records of the same files and settings are taken from the cache.

    Args:
        out: folder for `cache/`.
        perceptual: computes LPIPS; None leaves it out.
        inception: computes features for FID and KID; None leaves them out.
        commit: of the code; noted in each record.

    Raises:
        InputError: the folder cannot be made.
    """

    def __init__(
        self, out: Path, perceptual: Perceptual | None, inception: Inception | None, commit: str | None = None
    ) -> None:
        self._cache, self._commit = out / "cache", commit
        make_folder(self._cache)
        self._perceptual, self._inception = perceptual, inception

    def measure(self, case: Case, method: Method) -> dict[str, Any]:
        """The record of a method on a case: its scores, and the paths of its files.

        Raises:
            InputError: the files cannot be read or used, or the cache cannot be written.
        """
        photo = read_photo(case.pair.image, case.pair.mask)
        target = photo.picture.rgb()
        mask = torch.from_numpy(photo.hole.mask)[None, None]
        key = _digest(method.identity(case), case.pair)
        path = self._cache / case.kind / f"{case.pair.output}-{method.described['way']}-{key}"
        record = _load(path.with_name(f"{path.name}.json"))
        image_path = path.with_name(f"{path.name}.png")
        if record is None:
            try:
                filled = method(target, mask, case)
            except InputError as error:
                raise InputError(f"{case.pair.mask}: {error}") from error
            shown = from_rgb(filled.image)
            record = {
                "hole": float(photo.hole.mask.mean()),
                "losses": filled.losses,
                "seconds": filled.seconds,
                # What is measured is the file that a user would get, rounded to 8 bits.
                "scores": score(shown.rgb(), target, mask),
                "commit": self._commit,
            }
            make_folder(path.parent)
            data = json.dumps(record).encode()
            write_atomic({image_path: encode(shown, image_path), path.with_name(f"{path.name}.json"): data})
        # Names and paths may have changed since the record was cached.
        record |= {"kind": case.kind, "name": case.pair.output, "photo": case.photo, "method": method.name}
        record |= {"picture": str(image_path), "image": str(case.pair.image), "mask": str(case.pair.mask)}
        self._add_learned(record, path, case, target)
        return record

    def _add_learned(self, record: dict[str, Any], path: Path, case: Case, target: torch.Tensor) -> None:
        """Add the scores and features of pretrained networks, also to cached records that lack them."""
        changed = False
        record["scores"].pop("lpips", None)  # perhaps of another network
        record.pop("features", None)
        if self._perceptual is not None:
            known = record.setdefault("lpips", {})
            if self._perceptual.name not in known:
                known[self._perceptual.name] = self._perceptual(read_picture(record["picture"]).rgb(), target)
                changed = True
            record["scores"]["lpips"] = known[self._perceptual.name]
        if self._inception is not None:
            fake = path.with_name(f"{path.name}-{self._inception.name}.npy")
            # The photo's features serve every method.
            real = fake.with_name(f"{case.pair.output}-{_digest('photo', case.pair)}-{self._inception.name}.npy")
            if not fake.is_file():
                _save(fake, self._inception(read_picture(record["picture"]).rgb()))
            if not real.is_file():
                _save(real, self._inception(target))
            record["features"] = {"fake": str(fake), "real": str(real)}
        if changed:
            write_atomic({path.with_name(f"{path.name}.json"): json.dumps(record).encode()})


def measure_all(
    bench: Bench, cases: list[Case], methods: list[Method], on_record: Callable[[dict[str, Any]], object]
) -> list[dict[str, Any]]:
    """Measure every method on every case."""
    records = []
    for case in cases:
        for method in methods:
            records.append(bench.measure(case, method))
            on_record(records[-1])
    return records


def _digest(identity: str, pair: Pair) -> str:
    assert pair.mask is not None  # noqa: S101  the pairs here have a mask file
    content = identity.encode() + pair.image.read_bytes() + pair.mask.read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


def _load(path: Path) -> dict[str, Any] | None:
    if not path.is_file() or not path.with_suffix(".png").is_file():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _save(path: Path, features: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, features)
    write_atomic({path: buffer.getvalue()})
