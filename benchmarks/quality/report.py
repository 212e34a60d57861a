"""Write `report.md` and `report.html`, which is one file with tables, plots and pictures to be mailed."""

from __future__ import annotations

import base64
import html
import importlib.util
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from refiner.files import write_atomic
from refiner.images.masks import read_mask
from refiner.images.reading import read_picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_SHOWN = 320  # side of the gallery's overviews and crops, in pixels
_LABEL = 24  # characters of a name in a plot
_RANKED_BY = "texture 0"  # lower is better
_STYLE = (
    "body{font:15px sans-serif;max-width:1200px;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:right;font-size:13px}"
    "figure{display:inline-block;margin:4px}"
    "figcaption{font-size:12px;color:#555}img{image-rendering:pixelated}"
)


def write_report(
    out: Path, title: str, tables: str, notes: Sequence[str], records: Sequence[dict[str, Any]], method: str
) -> None:
    """Write `report.md` and `report.html`.

    Args:
        out: folder.
        title: of the report.
        tables: in Markdown.
        notes: paragraphs on how it was measured.
        records: of all methods on all pictures.
        method: whose best, median and worst cases are shown beside the other methods.
    """
    text = "\n\n".join([f"# {title}", *notes, tables])
    body = [f"<h1>{html.escape(title)}</h1>", *(f"<p>{html.escape(note)}</p>" for note in notes), _html_tables(tables)]
    body += ["<h2>Metrics against the hole's size</h2>", *_plots(records), "<h2>Cases</h2>", *_gallery(records, method)]
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><body>{''.join(body)}</body></html>"
    )
    write_atomic({out / "report.md": text.encode(), out / "report.html": page.encode()})


def _html_tables(markdown: str) -> str:
    parts: list[str] = []
    rows: list[str] = []

    def close() -> None:
        if rows:
            parts.append("<table>" + "".join(rows) + "</table>")
            rows.clear()

    for line in markdown.splitlines():
        if not line.startswith("|"):
            close()
            if line:
                parts.append(f"<p>{html.escape(line)}</p>")
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if set(line) <= {"|", "-"}:
            continue
        tag = "td" if rows else "th"
        shown = [
            f"<b>{html.escape(cell.strip('*'))}</b>" if cell.startswith("**") else html.escape(cell) for cell in cells
        ]
        rows.append("<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in shown) + "</tr>")
    close()
    return "".join(parts)


def _plots(records: Sequence[dict[str, Any]]) -> list[str]:
    if importlib.util.find_spec("matplotlib") is None:
        return ['<p>Plots are left out: pip install "refiner-inpainting[metrics]" for them.</p>']
    from matplotlib.figure import Figure  # noqa: PLC0415  an extra

    methods = list(dict.fromkeys(r["method"] for r in records))
    figures = []
    for name in ("l1", "ssim", "texture 0"):
        figure = Figure(figsize=(4, 3), layout="constrained")
        axes = figure.subplots()
        for method in methods:
            chosen = [r for r in records if r["method"] == method]
            axes.scatter(
                [r["hole"] for r in chosen], [r["scores"][name] for r in chosen], s=9, label=_label(method), alpha=0.7
            )
        axes.set_xlabel("hole, share of the picture")
        axes.set_ylabel(name)
        axes.legend(fontsize=7)
        figures.append(_figure(figure, name))
    curves = [r["losses"] for r in records if r["losses"]]
    if curves:
        figure = Figure(figsize=(4, 3), layout="constrained")
        axes = figure.subplots()
        for losses in curves:
            axes.plot(range(1, len(losses) + 1), [loss / losses[0] for loss in losses], color="C2", alpha=0.3, lw=0.8)
        axes.set_xlabel("prediction at the full size")
        axes.set_ylabel("loss, relative to the first")
        figures.append(_figure(figure, "loss curves"))
    return figures


def _label(method: str) -> str:
    """A name short enough for a plot: the end, since the end of a path says most."""
    return method if len(method) <= _LABEL else f"...{method[-_LABEL:]}"


def _figure(figure: Any, name: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return _image_tag(buffer.getvalue(), "png", name)


def _gallery(records: Sequence[dict[str, Any]], method: str) -> list[str]:
    """Best, median and worst case of each kind, by the texture distance less that of the first other method."""
    parts = []
    methods = list(dict.fromkeys(r["method"] for r in records))
    for kind in sorted({r["kind"] for r in records}):
        by_name: dict[str, dict[str, dict[str, Any]]] = {}
        for record in records:
            if record["kind"] == kind:
                by_name.setdefault(record["name"], {})[record["method"]] = record
        cases = [case for case in by_name.values() if set(case) == set(methods)]

        def gain(case: dict[str, dict[str, Any]]) -> float:
            first = methods[0] if methods[0] != method else methods[-1]
            return float(case[method]["scores"][_RANKED_BY] - case[first]["scores"][_RANKED_BY])

        cases.sort(key=gain)
        if not cases:
            continue
        picks = {"best": cases[0], "median": cases[len(cases) // 2], "worst": cases[-1]}
        for label, case in picks.items():
            name = next(iter(case.values()))["name"]
            parts.append(f"<h3>{html.escape(kind)}, {label} case: {html.escape(name)}</h3>")
            parts += _case(case, methods)
    return parts


def _case(case: dict[str, dict[str, Any]], methods: Sequence[str]) -> list[str]:
    """The photo and each method's result: all of it, and a crop at 1:1 around the hole's rim."""
    any_record = next(iter(case.values()))
    photo = read_picture(any_record["image"])
    hole = read_mask(any_record["mask"], photo).mask
    pictures = {"photo": photo.to_pil().convert("RGB")}
    pictures |= {name: read_picture(case[name]["picture"]).to_pil().convert("RGB") for name in methods}
    top, left = _rim(hole)
    tags = []
    for name, picture in pictures.items():
        small = picture.copy()
        small.thumbnail((_SHOWN, _SHOWN))
        crop = picture.crop((left, top, left + min(_SHOWN, picture.width), top + min(_SHOWN, picture.height)))
        for part, caption in ((small, name), (crop, f"{name}, 1:1")):
            buffer = io.BytesIO()
            part.save(buffer, "JPEG", quality=90)
            tags.append(_image_tag(buffer.getvalue(), "jpeg", caption))
    return tags


def _rim(hole: NDArray[np.bool_]) -> tuple[int, int]:
    """Top left corner of a crop around the rim's point nearest to the picture's middle."""
    rim = hole & ~(np.roll(hole, 1, 0) & np.roll(hole, -1, 0) & np.roll(hole, 1, 1) & np.roll(hole, -1, 1))
    points = np.argwhere(rim if rim.any() else hole)
    center = np.array(hole.shape) / 2
    y, x = points[np.abs(points - center).sum(axis=1).argmin()]
    height, width = hole.shape
    return (
        int(np.clip(y - _SHOWN // 2, 0, max(height - _SHOWN, 0))),
        int(np.clip(x - _SHOWN // 2, 0, max(width - _SHOWN, 0))),
    )


def _image_tag(data: bytes, kind: str, caption: str) -> str:
    encoded = base64.b64encode(data).decode()
    return (
        f'<figure><img src="data:image/{kind};base64,{encoded}" alt="{html.escape(caption)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
