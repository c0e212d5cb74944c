"""The documents say what the code does."""

from __future__ import annotations

import ast
import re

from kernel.web.guard import PERMISSIONS
from server.documents import documents
from tests.architecture.test_floors import PACKAGES
from tests.conftest import ROOT

TOPIC = re.compile(r"[a-z]+(?:\.[a-z_]+)+\.v\d+\Z")


async def test_generated_documents_are_up_to_date() -> None:
    for name, text in (await documents()).items():
        current = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert current == text, f"docs/{name}: run make docs"


def test_every_package_is_on_the_map() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    architecture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for package in PACKAGES:
        assert f"`{package}/`" in readme, package
        assert f"`{package}/`" in architecture, package


def test_every_permission_is_documented() -> None:
    text = (ROOT / "docs" / "routes.md").read_text(encoding="utf-8")
    assert all(f"`{permission}`" in text for permission in PERMISSIONS)


def test_every_event_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    documented = {name for name in re.findall(r"`([^`]+)`", text) if TOPIC.match(name)}
    assert documented == _topics()


def test_every_make_target_has_its_sentence() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):", makefile, re.MULTILINE)
    for wanted in ("setup", "run", "check", "test", "bench", "soak", "migrate", "messages"):
        assert wanted in targets
    for target in targets:
        assert re.search(rf"^{target}:.*## \S", makefile, re.MULTILINE), target


def test_lock_files_name_no_host() -> None:
    frontend = ROOT / "kernel" / "web" / "frontend" / "package-lock.json"
    for lock in [*ROOT.glob("requirements*.lock"), ROOT / ".npmrc"]:
        assert "://" not in lock.read_text(encoding="utf-8"), lock.name
    assert '"resolved"' not in frontend.read_text(encoding="utf-8")


def _topics() -> set[str]:
    found = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                    value = node.value.value
                    if isinstance(value, str) and TOPIC.match(value):
                        found.add(value)
    return found
