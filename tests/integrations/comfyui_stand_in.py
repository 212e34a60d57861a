"""A small ComfyUI for the nodes: the modules that they import, which remember what they were asked."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch


class Interrupted(Exception):  # noqa: N818  ComfyUI's own is called so
    pass


class Bar:
    """Stands for ComfyUI's progress bar."""

    made: list[Bar]

    def __init__(self, total: int, node_id: str | None = None) -> None:
        self.total, self.values, self.previews = total, [], []
        self.made.append(self)

    def update_absolute(self, value: int, total: int | None = None, preview: object = None) -> None:
        self.values.append(value)
        if preview is not None:
            self.previews.append(preview)


class Comfy:
    """What the nodes asked, and the folders they see."""

    def __init__(self, folder: Path) -> None:
        self.input, self.output, self.temp, self.models = (
            folder / name for name in ("input", "output", "temp", "models")
        )
        for path in (self.input, self.output, self.models / "inpaint"):
            path.mkdir(parents=True)
        self.bars: list[Bar] = []
        self.asked: list[int] = []  # bytes to be free
        self.emptied = 0
        self.interrupt_after: int | None = None  # checks
        self.said: list[tuple[str, str]] = []

    def modules(self) -> dict[str, ModuleType]:
        management = ModuleType("comfy.model_management")
        management.get_torch_device = lambda: torch.device("cpu")
        management.free_memory = lambda size, device: self.asked.append(size)
        management.soft_empty_cache = self._empty
        management.InterruptProcessingException = Interrupted
        management.throw_exception_if_processing_interrupted = self._check
        utils = ModuleType("comfy.utils")
        utils.ProgressBar = type("ProgressBar", (Bar,), {"made": self.bars})
        comfy = ModuleType("comfy")
        comfy.utils, comfy.model_management = utils, management
        folders = ModuleType("folder_paths")
        folders.models_dir = str(self.models)
        folders.get_input_directory = lambda: str(self.input)
        folders.get_output_directory = lambda: str(self.output)
        folders.get_temp_directory = lambda: str(self.temp)
        folders.get_annotated_filepath = lambda name: str(self.input / name)
        folders.add_model_folder_path = lambda name, path: None
        folders.get_filename_list = lambda name: sorted(path.name for path in (self.models / name).iterdir())
        folders.get_full_path = lambda name, file: str(self.models / name / file)
        folders.get_save_image_path = self._save_path
        execution = ModuleType("comfy_execution")
        execution.utils = ModuleType("comfy_execution.utils")
        execution.utils.get_executing_context = lambda: SimpleNamespace(node_id="7")
        server = ModuleType("server")
        send = SimpleNamespace(send_progress_text=lambda text, node: self.said.append((text, node)))
        server.PromptServer = SimpleNamespace(instance=send)
        return {
            "comfy": comfy,
            "comfy.utils": utils,
            "comfy.model_management": management,
            "folder_paths": folders,
            "comfy_execution": execution,
            "comfy_execution.utils": execution.utils,
            "server": server,
        }

    def _empty(self) -> None:
        self.emptied += 1

    def _check(self) -> None:
        if self.interrupt_after is None:
            return
        if not self.interrupt_after:
            raise Interrupted
        self.interrupt_after -= 1

    def _save_path(self, prefix: str, folder: str, width: int, height: int):
        count = sum(path.name.startswith(prefix) for path in self.output.iterdir())
        return folder, prefix, count + 1, "", prefix
