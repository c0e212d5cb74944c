"""Packages import only from the floors below, and only through the faces of a room."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

PACKAGES = ("archive", "dataset", "dicomweb", "gateway", "identity", "kernel", "server")
# What another package may import of a room, besides `domain` and `service` of its features.
OPEN = {"kernel", "dataset"}
FACES = {
    "server": {
        "archive.journal.node",
        "archive.journal.spares",
        "archive.receive.recovery",
        "archive.query.conditions",  # the conformance statement names the matching keys
        "archive.settle.sweep",
        "dicomweb.browse.facts",  # the names of a patient, as the page shows them
        "dicomweb.browse.routes",
        "dicomweb.routes",
        "gateway.ae.routes",
        "gateway.dimse.status",
        "gateway.server",
        "gateway.upper_layer.sop_classes",
        "identity.accounts.passwords",
        "identity.citizens.routes",
        "identity.console.routes",
        "identity.guard.keeper",
        "identity.pages.elsewhere",
        "identity.pages.routes",
        "identity.provider.routes",
    }
}
# What pure data handling may import from kernel.
KERNEL_FOR_DATASET = {"kernel.errors"}


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rooms_are_entered_by_their_faces() -> None:
    strangers = [
        f"{importer} imports {imported}"
        for importer, imported in _imports()
        if not _is_face(importer.split(".")[0], imported)
    ]
    assert strangers == []


def test_dataset_takes_only_errors_from_kernel() -> None:
    taken = {
        imported
        for importer, imported in _imports()
        if importer.startswith("dataset.") and imported.startswith("kernel")
    }
    assert taken <= KERNEL_FOR_DATASET


def test_packages_open_with_a_docstring_and_nothing_else() -> None:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("__init__.py"):
            body = ast.parse(file.read_text(encoding="utf-8")).body
            is_docstring = (
                len(body) == 1
                and isinstance(body[0], ast.Expr)
                and isinstance(body[0].value, ast.Constant)
            )
            assert is_docstring, f"{file.relative_to(ROOT)} is more, or less, than a docstring"


def test_nothing_is_called_core_common_utils_or_shared() -> None:
    names = {path.stem for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert names.isdisjoint({"core", "common", "utils", "util", "shared", "helpers", "misc"})


def _is_face(package: str, imported: str) -> bool:
    room, *rest = imported.split(".")
    if room in (package, *OPEN):
        return True
    return (rest[-1:] in (["domain"], ["service"])) or imported in FACES.get(package, set())


def _imports() -> Iterator[tuple[str, str]]:
    """(module, module it imports) among our own packages."""
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            if "node_modules" in file.parts:
                continue
            importer = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                for imported in _names(node):
                    if imported.split(".")[0] in PACKAGES:
                        yield importer, imported


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        # `from dicomweb import routes` means the module, `from a.b import name` the module a.b
        if "." in node.module or node.module not in PACKAGES:
            base = ROOT.joinpath(*node.module.split("."))
            for alias in node.names:
                inner = base / f"{alias.name}.py"
                yield f"{node.module}.{alias.name}" if inner.is_file() else node.module
        else:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
