#!/usr/bin/env python3
"""GIMP 3: Filters > Enhance > Remove Selection. The `refiner` program fills what is selected, on a layer of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gi

gi.require_version("Gegl", "0.4")
gi.require_version("Gimp", "3.0")
import refiner_program  # noqa: E402  the versions come first
from gi.repository import Gegl, Gimp, Gio, GLib, GObject  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

NAME = "plug-in-refiner-remove-selection"
# Progress at the program's start and end: writing its files and reading its result takes time too.
_BEFORE, _AFTER = 0.02, 0.98
_MASK = "Y float"  # how a selection's values are kept: exactly, whatever the picture's precision
_GUIDE_SIDE = 1024  # pixels of a guide's longer side: what is painted or made elsewhere is seldom finer
_IN_8_BITS = (Gimp.Precision.U8_LINEAR, Gimp.Precision.U8_NON_LINEAR, Gimp.Precision.U8_PERCEPTUAL)


@dataclass(frozen=True)
class _Hints:
    """What of the image tells how its hole is filled.

    Attributes:
        guide: shows roughly what the hole is to hold; None for none.
        avoid: where nothing may be copied from; None for nowhere.
    """

    guide: Gimp.Layer | None
    avoid: Gimp.Channel | None


class RemoveSelection(Gimp.PlugIn):
    """The plug-in: tells GIMP what it offers."""

    def do_set_i18n(self, _: str) -> bool:
        """No translations."""
        return False

    def do_query_procedures(self) -> list[str]:
        """Names of the procedures."""
        return [NAME]

    def do_create_procedure(self, name: str) -> Gimp.Procedure:
        """The procedure: its place in the menu, its words, its options."""
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, _run, None)
        procedure.set_image_types("RGB*, GRAY*")
        sensitive = Gimp.ProcedureSensitivityMask
        procedure.set_sensitivity_mask(sensitive.DRAWABLE | sensitive.DRAWABLES | sensitive.NO_DRAWABLES)
        procedure.set_menu_label("Re_move Selection...")
        procedure.add_menu_path("<Image>/Filters/Enhance")
        procedure.set_documentation(
            "Remove what is selected, at full size",
            "The selection is filled by the refiner program on a new layer with a mask; all other layers stay.",
            name,
        )
        procedure.set_attribution("refiner", "refiner, Apache-2.0", "2026")
        defaults = refiner_program.Choices()
        for key, label, words, value in (
            ("model", "_Model", "A name of `refiner weights list`, or the path of a weights file", defaults.model),
            ("preset", "_Preset", "default, or the path of a YAML file", defaults.preset),
            ("more", "_Further options", "Of `refiner inpaint`, such as --steps 20 --memory 6GB", defaults.more),
            ("program", "Progr_am", "Where refiner is, if GIMP does not find it by this name", defaults.program),
        ):
            procedure.add_string_argument(key, label, words, value, GObject.ParamFlags.READWRITE)
        grow = "Pixels the selection grows by, to cover what of the object lies beside it"
        procedure.add_int_argument("grow", "_Grow by pixels", grow, 0, 1024, 4, GObject.ParamFlags.READWRITE)
        seed = "Another number gives another fill by copies"
        procedure.add_int_argument("seed", "S_eed", seed, 0, GLib.MAXINT32 - 64, 0, GObject.ParamFlags.READWRITE)
        variants = "How many fills to choose from, each on a layer of its own; the seed goes up by one"
        procedure.add_int_argument("variants", "_Variants", variants, 1, 16, 1, GObject.ParamFlags.READWRITE)
        guide = "A layer that shows what the hole is to hold, at up to 1024 pixels; what is finer comes from the photo"
        procedure.add_layer_argument("guide", "G_uide", guide, True, GObject.ParamFlags.READWRITE)
        avoid = "A channel, such as Select > Save to Channel makes, that shows what must not be copied into the hole"
        procedure.add_channel_argument("avoid", "Avo_id", avoid, True, GObject.ParamFlags.READWRITE)
        return procedure


def _run(
    procedure: Gimp.Procedure,
    mode: Gimp.RunMode,
    image: Gimp.Image,
    _drawables: list[Gimp.Drawable],
    config: Gimp.ProcedureConfig,
    _data: Any,
) -> Gimp.ValueArray:
    """Called by GIMP: ask for the options, and remove the selection."""
    status = Gimp.PDBStatusType
    unfit = _unfit(image)
    if unfit is not None:
        return _failed(procedure, unfit)
    if mode == Gimp.RunMode.INTERACTIVE and not _asked(procedure, config):
        return procedure.new_return_values(status.CANCEL, None)
    names = ("program", "model", "preset", "more")
    numbers = {name: config.get_property(name) for name in ("seed", "variants")}
    choices = refiner_program.Choices(**{name: config.get_property(name) or "" for name in names}, **numbers)
    Gimp.progress_init("Removing the selection")
    try:
        hints = _Hints(config.get_property("guide"), config.get_property("avoid"))
        _remove(image, choices, config.get_property("grow"), hints)
    except refiner_program.Failure as failure:
        return _failed(procedure, str(failure))
    finally:
        Gimp.progress_end()
    Gimp.displays_flush()
    return procedure.new_return_values(status.SUCCESS, None)


def _unfit(image: Gimp.Image) -> str | None:
    """Why nothing can be removed from an image; None where it can."""
    if image.get_base_type() == Gimp.ImageBaseType.INDEXED:
        return "The picture is indexed; convert it first, with Image > Mode > RGB."
    if not image.get_layers():
        return "The picture has no layer; add one, or open a photo."
    if Gimp.Selection.is_empty(image):
        return "Nothing is selected; select what is to be removed, then call this filter again."
    return None


def _failed(procedure: Gimp.Procedure, line: str) -> Gimp.ValueArray:
    return procedure.new_return_values(Gimp.PDBStatusType.EXECUTION_ERROR, GLib.Error(line))


def _asked(procedure: Gimp.Procedure, config: Gimp.ProcedureConfig) -> bool:
    """Show the options; false where the user cancels."""
    gi.require_version("GimpUi", "3.0")
    from gi.repository import GimpUi  # noqa: PLC0415  needs a display, which batch mode lacks

    GimpUi.init(NAME)
    dialog = GimpUi.ProcedureDialog.new(procedure, config, "Remove Selection")
    dialog.fill(["model", "preset", "grow", "seed", "variants", "guide", "avoid", "more", "program"])
    try:
        return bool(dialog.run())
    finally:
        dialog.destroy()


def _remove(image: Gimp.Image, choices: refiner_program.Choices, grow: int, hints: _Hints) -> None:
    """Fill the selection, each variant on a new layer.

    Raises:
        Failure: the program is not there, or fails, or there is nothing to go by, or the guide is elsewhere.
    """
    if hints.guide is not None and hints.guide.get_image().get_id() != image.get_id():
        raise refiner_program.Failure("The guide is a layer of another picture; copy it into this one as a layer.")
    with refiner_program.folder() as folder:
        photo, mask = folder / "photo.png", folder / "mask.png"
        guide = None if hints.guide is None else folder / "guide.png"
        avoid = None if hints.avoid is None else folder / "avoid.png"
        results = [folder / f"result-{seed}.png" for seed in choices.seeds]
        commands = [
            refiner_program.command(choices, photo, mask, result, seed=seed, guide=guide, avoid=avoid)
            for seed, result in zip(choices.seeds, results)  # noqa: B905  Python 3.9 in some of GIMP's packages
        ]
        selected = _write_selection(image, grow, mask)
        if avoid is not None:
            _write_channel(hints.avoid, avoid)
        _write_visible(image, photo, without=hints.guide)
        if guide is not None:
            _write_visible(image, guide, side=_GUIDE_SIDE, with_=hints.guide)
        Gimp.progress_update(_BEFORE)
        # No copy of the picture is open from here on: GIMP would keep it where Cancel ends the plug-in.
        for number, (command, result) in enumerate(zip(commands, results)):  # noqa: B905  as above
            _run_one(command, result, number, len(commands))
        names = ["Removed"] if len(results) == 1 else [f"Removed, seed {seed}" for seed in choices.seeds]
        _add_layers(image, dict(zip(names, results)), selected)  # noqa: B905  as above


def _run_one(command: list[str], result: Path, number: int, count: int) -> None:
    """Run the program for one of several variants, and show how far all are."""

    def show(share: float) -> None:
        Gimp.progress_update(_BEFORE + (number + share) / count * (_AFTER - _BEFORE))

    refiner_program.run(command, show, result)


def _write_selection(image: Gimp.Image, grow: int, path: Path) -> bytes:
    """Write the selection, grown, as a gray picture.

    Returns:
        Its values, as `_MASK` has them.

    Raises:
        Failure: it covers all.
    """
    copy = image.duplicate()  # so that the user's selection stays
    try:
        if grow:
            Gimp.Selection.grow(copy, grow)
        selection = copy.get_selection()
        buffer, area = selection.get_buffer(), _all_of(image)
        if 0 not in bytes(buffer.get(area, 1.0, "Y u8", Gegl.AbyssPolicy.NONE)):
            raise refiner_program.Failure(
                "All of the picture is selected, or becomes so as the selection grows, which leaves nothing to go by; "
                "select what is to be removed alone."
            )
        _write_channel(selection, path)
        return bytes(buffer.get(area, 1.0, _MASK, Gegl.AbyssPolicy.NONE))
    finally:
        copy.delete()


def _all_of(image: Gimp.Image) -> Gegl.Rectangle:
    return Gegl.Rectangle.new(0, 0, image.get_width(), image.get_height())


def _write_channel(channel: Gimp.Channel, path: Path) -> None:
    """Write a channel, such as the selection, as a gray picture, above 0 where a pixel is in it even a little."""
    gray = Gimp.Image.new(channel.get_width(), channel.get_height(), Gimp.ImageBaseType.GRAY)
    try:
        gray.insert_layer(Gimp.Layer.new_from_drawable(channel, gray), None, 0)
        _export(gray, path, "gray8")
    finally:
        gray.delete()


def _write_visible(
    image: Gimp.Image,
    path: Path,
    *,
    without: Gimp.Layer | None = None,
    with_: Gimp.Layer | None = None,
    side: int | None = None,
) -> None:
    """Write what is visible of an image, in 8 or 16 bits and with its color profile.

    Args:
        image: the image.
        path: the file.
        without: a layer to leave out.
        with_: a layer to show, whether it is visible or not.
        side: most pixels of the longer side; None for the image's own.
    """
    flat = image.duplicate()
    try:
        shallow = flat.get_precision() in _IN_8_BITS
        precision = Gimp.Precision.U8_NON_LINEAR if shallow else Gimp.Precision.U16_NON_LINEAR
        if flat.get_precision() != precision:
            flat.convert_precision(precision)
        for layer, shown in ((without, False), (with_, True)):
            if layer is not None:
                _same_layer(layer, image, flat).set_visible(shown)
        visible = Gimp.Layer.new_from_visible(flat, flat, "photo")
        others = flat.get_layers()
        flat.insert_layer(visible, None, 0)
        for layer in others:
            flat.remove_layer(layer)
        longer = max(flat.get_width(), flat.get_height())
        if side is not None and longer > side:
            flat.scale(*(max(round(length * side / longer), 1) for length in (flat.get_width(), flat.get_height())))
        _export(flat, path, "auto")
    finally:
        flat.delete()


def _same_layer(layer: Gimp.Layer, image: Gimp.Image, copy: Gimp.Image) -> Gimp.Layer:
    """The layer of a copied image that stands where a layer of the image does."""
    place, level = [], layer
    while level is not None:
        place.append(image.get_item_position(level))
        level = level.get_parent()
    found = copy.get_layers()[place.pop()]
    while place:
        found = found.get_children()[place.pop()]
    return found


def _export(image: Gimp.Image, path: Path, form: str) -> None:
    procedure = Gimp.get_pdb().lookup_procedure("file-png-export")
    config = procedure.create_config()
    config.set_property("run-mode", Gimp.RunMode.NONINTERACTIVE)
    config.set_property("image", image)
    config.set_property("file", Gio.File.new_for_path(str(path)))
    config.set_property("format", form)
    config.set_property("include-color-profile", True)
    config.set_property("compression", 1)
    done = procedure.run(config)
    if done.index(0) != Gimp.PDBStatusType.SUCCESS:
        raise refiner_program.Failure(f"{path}: GIMP could not write it; is there room on the disk?")


def _add_layers(image: Gimp.Image, files: dict[str, Path], selected: bytes) -> None:
    """Put files on top of an image, as layers that show where the selection is; one step to undo.

    The first is on top, chosen, and the only one that is visible.

    Raises:
        Failure: a file is not of the image's size.
    """
    image.undo_group_start()
    try:
        layers = [_add_layer(image, *file, selected, position=number) for number, file in enumerate(files.items())]
        for layer in layers[1:]:
            layer.set_visible(False)
        image.set_selected_layers(layers[:1])
    finally:
        image.undo_group_end()


def _add_layer(image: Gimp.Image, name: str, path: Path, selected: bytes, *, position: int) -> Gimp.Layer:
    loaded = Gimp.file_load(Gimp.RunMode.NONINTERACTIVE, Gio.File.new_for_path(str(path)))
    try:
        width, height = image.get_width(), image.get_height()
        if (loaded.get_width(), loaded.get_height()) != (width, height):
            raise refiner_program.Failure(
                f"The result is {loaded.get_width()}x{loaded.get_height()}, the picture {width}x{height}: the preset "
                "shrinks large photos. Take the preset default."
            )
        layer = Gimp.Layer.new_from_drawable(loaded.get_layers()[0], image)
        layer.set_name(name)
        image.insert_layer(layer, None, position)
        mask = layer.create_mask(Gimp.AddMaskType.BLACK)
        layer.add_mask(mask)
        target = mask.get_buffer()
        target.set(_all_of(image), _MASK, selected)
        target.flush()
        mask.update(0, 0, width, height)
        layer.set_edit_mask(False)  # so that who retouches the fill does not paint on the mask
        return layer
    finally:
        loaded.delete()


Gimp.main(RemoveSelection.__gtype__, sys.argv)
