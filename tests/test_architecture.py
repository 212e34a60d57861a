"""The rooms of `refiner` and which way imports go, read off the code."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the top down: a room imports rooms below its own line, and itself. `refiner/__init__.py` hands on names.
ORDER = [
    {"cli"},
    {"batch", "web"},
    {"photo", "testing"},
    {"engine"},
    {"evaluation", "exemplar"},
    {"settings"},
    {"models", "images"},
    {"devices", "files", "config_files"},
    {"frozen"},
    {"memory", "blur", "byte_sizes", "detail", "errors", "interruption", "regions", "torch_state"},
]
ONLY_IN = {  # third-party packages and where they may be imported
    "PIL": ("refiner/images/", "refiner/evaluation/evaluation_set.py"),
    "click": ("refiner/cli/",),
    "tqdm": ("refiner/cli/",),
    "ray": ("refiner/batch/cluster.py",),
    "triton": ("refiner/frozen/gpu/kernels.py", "refiner/frozen/gpu/launch.py"),
    "starlette": ("refiner/web/",),
    "uvicorn": ("refiner/web/",),
}
EXTRAS = {"ray", "cv2", "pillow_heif", "onnxruntime"}  # may be missing, so what needs them imports them late
SLOW = {"kornia"}  # takes a third of a second to import, and copies do without it


@dataclass(frozen=True)
class Import:
    file: str
    line: int
    module: str
    late: bool  # inside a function
    typing: bool  # for type checkers alone

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"

    @property
    def root(self) -> str:
        return self.module.partition(".")[0]


def imports_of(path: Path) -> list[Import]:
    found: list[Import] = []
    name = path.relative_to(ROOT).as_posix()

    def walk(node: ast.AST, late: bool, typing: bool) -> None:
        for child in ast.iter_child_nodes(node):
            modules: list[str] = []
            if isinstance(child, ast.Import):
                modules = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{name}:{child.lineno}: relative import"
                # `from package import module` names the module too.
                modules = [child.module or ""]
                modules += [f"{child.module}.{alias.name}" for alias in child.names]
                modules = [m for m in modules if m.count(".") < 1 or is_module(m)] or modules[:1]
            found.extend(Import(name, child.lineno, module, late, typing) for module in modules)
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            guard = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            walk(child, late or function, typing or guard)

    walk(ast.parse(path.read_text(encoding="utf-8")), late=False, typing=False)
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def level(name: str) -> int:
    return next(number for number, rooms in enumerate(ORDER) if name in rooms)


def room_of_file(file: str) -> str:
    return Path(file).relative_to("refiner").parts[0].removesuffix(".py")


ENGINE = [found for path in sorted((ROOT / "refiner").rglob("*.py")) for found in imports_of(path)]
INSIDE = [i for i in ENGINE if room_of_file(i.file) not in ("__init__", "__main__")]


def test_every_room_is_on_the_plan() -> None:
    rooms = {room_of_file(path.relative_to(ROOT).as_posix()) for path in (ROOT / "refiner").rglob("*.py")}
    assert rooms - {"__init__", "__main__"} == set.union(*ORDER)


def test_rooms_import_downwards_only() -> None:
    wrong = [
        str(i)
        for i in INSIDE
        if i.root == "refiner"
        and room(i.module)
        and room(i.module) != room_of_file(i.file)
        and level(room(i.module)) <= level(room_of_file(i.file))
    ]
    assert not wrong


def test_refiner_knows_no_network() -> None:
    assert not [str(i) for i in ENGINE if i.root in ("lama", "benchmarks")]


@pytest.mark.parametrize("package", ONLY_IN)
def test_packages_stay_in_their_rooms(package: str) -> None:
    assert not [str(i) for i in ENGINE if i.root == package and not i.file.startswith(ONLY_IN[package])]


def test_the_engine_reads_no_files() -> None:
    assert not [
        str(i) for i in INSIDE if room(i.module) == "images" and room_of_file(i.file) in ("engine", "models", "frozen")
    ]


def test_late_imports_are_extras_slow_or_the_command_line() -> None:
    late = [i for i in INSIDE if i.late and not i.typing and not i.file.startswith("refiner/cli/")]
    assert not [str(i) for i in late if i.root not in EXTRAS | SLOW]


def test_no_circles() -> None:
    arrows: dict[str, set[str]] = {}
    for i in INSIDE:
        own = i.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if i.root == "refiner" and i.module != own and is_module(i.module) and not i.typing:
            arrows.setdefault(own, set()).add(i.module)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module in done:
            return
        for target in arrows.get(module, ()):
            visit(target, (*path, module))
        done.add(module)

    for module in list(arrows):
        visit(module, ())
