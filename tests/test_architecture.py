"""The house: rooms on floors, imports that only run down, and what a room alone may do."""

import ast
import re
from pathlib import Path

import pytest

import dissect

PACKAGE = Path(dissect.__file__).parent
FLOORS = (
    ("_utils",),
    ("hooks", "units", "annotations", "models", "data"),
    ("surgery", "segmentation", "attribution"),
    ("probe", "effect", "dissection", "latent_space", "representation", "training"),
    ("selection", "figures"),
    ("studio",),
    ("cli",),
    ("__init__", "__main__"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))

# Private names of torch, each with its reason.
PRIVATE = {
    # Which operations run, whatever they are called by: only a dispatch mode sees all of them.
    ("hooks/training_mode.py", "torch.utils._python_dispatch"),
    # Whether something else holds a tensor's memory: torch tells it nowhere else.
    ("hooks/modules.py", "torch._C"),
}
HOOKS = re.compile(r"register_\w*hook\b|_(forward|backward)_(pre_)?hooks\b|_compiled_call_impl")


def name_of(file):
    return file.relative_to(PACKAGE).as_posix()


def room_of(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file):
    """The rooms that a file imports, at its top and inside its functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)}: a relative import"
            names = [node.module]
            if node.module == "dissect":
                names = [f"dissect.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("dissect."):
                room = name.split(".")[1]
                yield room if room in FLOOR_OF else "__init__"


def test_every_file_lies_in_a_room_of_the_plan():
    assert {room_of(file) for file in FILES} == set(FLOOR_OF)


@pytest.mark.parametrize("room", FLOOR_OF)
def test_a_room_imports_from_lower_floors_alone(room):
    upward = {
        f"{name_of(file)} imports {other}"
        for file in FILES
        if room_of(file) == room
        for other in imports(file)
        if other not in (room, "__init__") and FLOOR_OF[other] >= FLOOR_OF[room]
    }
    assert not upward


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_file_is_short(file):
    assert len(file.read_text().splitlines()) <= 400


# What writes, removes or locks a file; `atomic_write` hands a stream to who must fill one.
WRITING_METHODS = {
    *("chmod", "hardlink_to", "mkdir", "rmdir", "symlink_to", "touch", "unlink"),
    *("write_text", "write_bytes", "savefig", "save_file", "tofile", "rmtree", "makedirs"),
}
WRITING_MODULES = {"fcntl", "filelock", "tempfile"}
WRITING_FUNCTIONS = {
    *(("os", name) for name in ("open", "remove", "rename", "replace", "truncate", "umask")),
    *(("shutil", name) for name in ("copy", "copyfile", "copytree", "move")),
    *(("np", name) for name in ("save", "savez", "savetxt")),
    ("torch", "save"),
}
# Silences the interpreter's last flush to a pipe that was closed: no file, but /dev/null.
WRITERS = {("cli/app.py", "os.open")}


def writes(file):
    """The calls and imports of a file that change the disk."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ({alias.name for alias in node.names} & WRITING_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in WRITING_MODULES:
            yield node.module
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            owner = getattr(getattr(node.func, "value", None), "id", None)
            if isinstance(node.func, ast.Attribute) and name in WRITING_METHODS:
                yield name
            elif (owner, name) in WRITING_FUNCTIONS:
                yield f"{owner}.{name}"
            elif name == "open" and any(
                isinstance(value, ast.Constant)
                and isinstance(value.value, str)
                and len(value.value) < 4
                and set(value.value) & set("wax+")
                for value in (*node.args, *(word.value for word in node.keywords))
            ):
                yield "open for writing"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_only_io_writes_files(file):
    if name_of(file) != "_utils/io.py":
        assert {(name_of(file), call) for call in writes(file)} <= WRITERS


LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# Loops that call a network named `model` or `generator` for something other than images of many
# latents.
OTHER_LOOPS = {
    "models/generate.py",  # the one loop
    "latent_space/optimize_latents.py",  # steps of an optimisation, which need gradients
    "representation/supervised.py",  # a classifier
}


def images_in_a_loop(file):
    """Lines of loops that use what a generator returns; `record(stop=True)` alone discards it."""
    for loop in ast.walk(ast.parse(file.read_text())):
        if not isinstance(loop, LOOPS):
            continue
        discarded = {id(node.value) for node in ast.walk(loop) if isinstance(node, ast.Expr)}
        for node in ast.walk(loop):
            if isinstance(node, ast.Call) and id(node) not in discarded:
                called = node.func
                name = getattr(called, "id", getattr(called, "attr", ""))
                if name in ("model", "generator", "average"):
                    yield node.lineno


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_only_generate_loops_from_latents_to_images(file):
    if name_of(file) not in OTHER_LOOPS:
        assert list(images_in_a_loop(file)) == []


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_hooks_alone_touches_hooks_of_torch(file):
    if room_of(file) != "hooks":
        assert not HOOKS.findall(file.read_text())


def private_names(file):
    """The private names of torch in a file: torch._x, torch.y._x, aten, from torch.y import _x."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            for name in (*(node.module or "").split("."), *(alias.name for alias in node.names)):
                if name.startswith("_"):
                    yield node.module
        elif isinstance(node, ast.Attribute):
            parts = ast.unparse(node).split(".")
            hidden = [k for k, part in enumerate(parts) if part.startswith("_") or part == "aten"]
            if parts[0] not in ("torch", "nn") or not all(map(str.isidentifier, parts)):
                continue
            if hidden and parts[-1] != "__version__":
                yield ".".join(parts[: hidden[0] + 1])


def test_private_names_of_torch_are_on_the_list():
    found = {(name_of(file), name) for file in FILES for name in private_names(file)}
    assert found == PRIVATE
