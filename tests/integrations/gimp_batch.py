"""Runs inside GIMP, for test_gimp.py: calls the plug-in on pictures of several kinds, and writes what came of it.

GIMP's Python has no NumPy, so pixels go out as raw bytes.
"""

import json
import os
from pathlib import Path

from gi.repository import Gegl, Gimp, Gio

FOLDER = Path(os.environ["REFINER_TEST_FOLDER"])
PROGRAM = os.environ["REFINER_TEST_PROGRAM"]
NAME = "plug-in-refiner-remove-selection"


def loaded(name):
    return Gimp.file_load(Gimp.RunMode.NONINTERACTIVE, Gio.File.new_for_path(str(FOLDER / name)))


def called(image, **options):
    """Status and error message of a call."""
    procedure = Gimp.get_pdb().lookup_procedure(NAME)
    config = procedure.create_config()
    given = {"run-mode": Gimp.RunMode.NONINTERACTIVE, "image": image, "program": PROGRAM, "grow": 0, **options}
    for key, value in given.items():
        config.set_property(key, value)
    config.set_core_object_array("drawables", image.get_selected_layers())
    done = procedure.run(config)
    status = done.index(0)
    return {"status": status.value_nick, "error": Gimp.get_pdb().get_last_error()}


def pixels(drawable, form, target):
    buffer = drawable.get_buffer()
    area = Gegl.Rectangle.new(0, 0, drawable.get_width(), drawable.get_height())
    (FOLDER / target).write_bytes(buffer.get(area, 1.0, form, Gegl.AbyssPolicy.NONE))


def visible(image, target):
    copy = image.duplicate()
    layer = Gimp.Layer.new_from_visible(copy, copy, "visible")
    copy.insert_layer(layer, None, 0)
    pixels(layer, "RGBA float", target)
    copy.delete()


def case(name, file, *, precision=None, grow=0, soft=0, more=""):
    others = len(Gimp.get_images())
    image = loaded(file)
    if precision is not None:
        image.convert_precision(precision)
    image.select_ellipse(Gimp.ChannelOps.REPLACE, 120, 80, 140, 100)
    if soft:
        Gimp.Selection.feather(image, soft)
    visible(image, f"{name}_before.raw")
    pixels(image.get_selection(), "Y float", f"{name}_selection.raw")
    (original,) = image.get_layers()
    pixels(original, "RGBA float", f"{name}_original_before.raw")
    done = called(image, grow=grow, more=f"--steps 3 --min-side 96 {more}".strip())
    layers = image.get_layers()
    done["layers"] = [layer.get_name() for layer in layers]
    done["precision"] = image.get_precision().value_nick
    done["size"] = [image.get_width(), image.get_height()]
    done["left"] = len(Gimp.get_images()) - others - 1
    if len(layers) > 1:
        pixels(layers[0], "RGBA float", f"{name}_fill.raw")
        pixels(layers[0].get_mask(), "Y float", f"{name}_mask.raw")
        pixels(image.get_selection(), "Y float", f"{name}_selection_after.raw")
    pixels(layers[-1], "RGBA float", f"{name}_original_after.raw")
    visible(image, f"{name}_after.raw")
    image.delete()
    return done


def variants():
    """Three fills by seed, and one that follows a layer that is red all over."""
    image = loaded("eight.png")
    image.select_ellipse(Gimp.ChannelOps.REPLACE, 120, 80, 140, 100)
    done = called(image, more="--detail exemplar --min-side 96", seed=3, variants=3)
    layers = image.get_layers()
    done["layers"] = [[layer.get_name(), layer.get_visible()] for layer in layers]
    done["chosen"] = [layer.get_name() for layer in image.get_selected_layers()]
    for number, layer in enumerate(layers[:-1]):
        pixels(layer, "RGBA float", f"variants_{number}.raw")
    image.delete()
    return done


def guided():
    """A guide in a group, hidden; it must not be in the picture that goes out."""
    image = loaded("eight.png")
    image.select_ellipse(Gimp.ChannelOps.REPLACE, 120, 80, 140, 100)
    group = Gimp.GroupLayer.new(image, "group")
    image.insert_layer(group, None, 0)
    guide = Gimp.Layer.new(image, "guide", 400, 300, Gimp.ImageType.RGBA_IMAGE, 100, Gimp.LayerMode.NORMAL)
    image.insert_layer(guide, group, 0)
    Gimp.context_set_foreground(Gegl.Color.new("red"))
    guide.edit_fill(Gimp.FillType.FOREGROUND)
    done = called(image, more="--detail features --match-color off --min-side 96", guide=guide)
    layers = image.get_layers()
    done["layers"] = [layer.get_name() for layer in layers]
    done["guide"] = guide.get_visible()
    pixels(layers[0], "RGBA float", "guided_fill.raw")
    image.delete()
    return done


def avoided(name, *, avoid):
    """Red on the right, and a hole across its edge; where told to, the red must not be copied."""
    image = loaded("eight.png")
    red = Gimp.Layer.new(image, "red", 200, 300, Gimp.ImageType.RGB_IMAGE, 100, Gimp.LayerMode.NORMAL)
    image.insert_layer(red, None, 0)
    red.set_offsets(200, 0)
    Gimp.context_set_foreground(Gegl.Color.new("red"))
    red.edit_fill(Gimp.FillType.FOREGROUND)
    image.select_rectangle(Gimp.ChannelOps.REPLACE, 200, 0, 200, 300)
    channel = Gimp.Selection.save(image)
    image.select_rectangle(Gimp.ChannelOps.REPLACE, 140, 100, 120, 80)
    done = called(image, more="--detail exemplar --min-side 96", avoid=channel if avoid else None)
    layer = image.get_layers()[0]
    done["edits_mask"] = layer.get_edit_mask()
    pixels(layer, "RGBA float", f"{name}_fill.raw")
    image.delete()
    return done


def refused(**options):
    """A call that has to fail, on a picture of which something is selected unless `select` is false."""
    image = loaded("eight.png")
    prepare = options.pop("prepare", None)
    if options.pop("select", True):
        image.select_rectangle(Gimp.ChannelOps.REPLACE, 100, 100, 50, 50)
    if prepare is not None:
        prepare(image)
    done = called(image, **options)
    done["layers"] = len(image.get_layers())
    image.delete()
    return done


def canceled():
    """A run that GIMP ends in the middle, as its Cancel button does."""
    program = FOLDER / "ending"
    program.write_text("#!/bin/sh\nkill -9 $PPID\n")
    program.chmod(0o755)
    others = len(Gimp.get_images())
    image = loaded("eight.png")
    image.select_rectangle(Gimp.ChannelOps.REPLACE, 100, 100, 50, 50)
    done = called(image, program=str(program))
    done["layers"] = len(image.get_layers())
    done["left"] = len(Gimp.get_images()) - others - 1
    image.delete()
    return done


SMALL = Gimp.Image.new(60, 40, Gimp.ImageBaseType.RGB)
TOLD = {
    "eight": case("eight", "eight.png"),
    "soft": case("soft", "eight.png", grow=5, soft=20),
    "deep": case("deep", "deep.png"),
    "float": case("float", "deep.png", precision=Gimp.Precision.FLOAT_LINEAR),
    "linear": case("linear", "eight.png", precision=Gimp.Precision.U8_LINEAR),
    "gray": case("gray", "gray.png"),
    "profile": case("profile", "profile.png"),
    "nothing": refused(select=False),
    "missing": refused(program="/nowhere/refiner"),
    "failing": refused(model="no-such-model"),
    "variants": variants(),
    "guided": guided(),
    "avoided": avoided("avoided", avoid=True),
    "copied": avoided("copied", avoid=False),
    "output": refused(more="-o /tmp/x.png"),
    "all": refused(prepare=lambda image: Gimp.Selection.all(image)),  # noqa: PLW0108  looked up when called
    "grown": refused(grow=400),
    "indexed": refused(
        prepare=lambda image: image.convert_indexed(
            Gimp.ConvertDitherType.NONE, Gimp.ConvertPaletteType.GENERATE, 64, False, False, ""
        )
    ),
    "empty": refused(prepare=lambda image: image.remove_layer(image.get_layers()[0])),
    "elsewhere": refused(guide=loaded("gray.png").get_layers()[0]),
    "avoid elsewhere": refused(avoid=Gimp.Selection.save(SMALL)),
    "silent": refused(program="/bin/false"),
    "no model": refused(model="", more="--steps 3 --min-side 96"),
    "canceled": canceled(),
    "misspelt": refused(more="--steps '3"),
}
(FOLDER / "small.yaml").write_text("pixel_budget: 60000\nsteps: 2\nmin_side: 96\n")
TOLD["shrunk"] = refused(preset=str(FOLDER / "small.yaml"))
(FOLDER / "told.json").write_text(json.dumps(TOLD))
