"""ComfyUI nodes that remove an object from a photo at full size and keep what the file holds beside its pixels."""

from .cutting import CUT_AROUND_HOLE, STITCH_REFINED
from .host_models import INPAINTER_FROM_MODEL
from .inpainters import LOAD_INPAINTER
from .mask_adjusting import ADJUST_MASK
from .photos import LOAD_PHOTO, SAVE_PHOTO
from .refining import REFINE_INPAINT

NODES = (
    LOAD_PHOTO,
    LOAD_INPAINTER,
    INPAINTER_FROM_MODEL,
    ADJUST_MASK,
    REFINE_INPAINT,
    CUT_AROUND_HOLE,
    STITCH_REFINED,
    SAVE_PHOTO,
)

try:
    from .current import extension
except ImportError:  # a ComfyUI from before its V3 schema
    from .classic import class_of

    NODE_CLASS_MAPPINGS = {node.id: class_of(node) for node in NODES}
    NODE_DISPLAY_NAME_MAPPINGS = {node.id: node.name for node in NODES}
else:

    async def comfy_entrypoint() -> object:
        """Called by ComfyUI; gives the nodes."""
        return extension(NODES)
