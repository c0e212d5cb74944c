"""docs/modules.toml tells the truth about what works."""

from __future__ import annotations

import re
import tomllib
from contextlib import AsyncExitStack
from typing import Any

import pytest

from kernel.settings import Settings
from server.web_process import build
from tests.conftest import ROOT

STATES = ("works", "partly", "not built")
# How many rows each part of the tender list has.
ROWS = {"A": 58, "B": 27, "C": 22, "D": 39}


@pytest.fixture
def modules() -> list[dict[str, Any]]:
    with (ROOT / "docs" / "modules.toml").open("rb") as file:
        rows: list[dict[str, Any]] = tomllib.load(file)["module"]
    return rows


def test_every_row_of_the_tender_is_there_once(modules: list[dict[str, Any]]) -> None:
    ids = [row["id"] for row in modules]
    assert len(ids) == len(set(ids)) == 146
    for part, number in ROWS.items():
        assert sum(row_id.startswith(part) for row_id in ids) == number, part
    assert all(re.fullmatch(r"[A-D]\d+\.\d+", row_id) for row_id in ids)


def test_every_row_is_complete(modules: list[dict[str, Any]]) -> None:
    for row in modules:
        assert set(row) == {"id", "seed", "english", "feature", "route", "test", "state"}, row["id"]
        assert row["seed"] and row["english"] and row["state"] in STATES, row["id"]


def test_what_is_not_built_claims_nothing(modules: list[dict[str, Any]]) -> None:
    for row in modules:
        if row["state"] == "not built":
            assert not (row["feature"] or row["route"] or row["test"]), row["id"]


async def test_what_works_has_a_route_and_a_journey(
    modules: list[dict[str, Any]], settings: Settings
) -> None:
    async with AsyncExitStack() as stack:
        app = await build(settings, stack)
        routes = {resource.canonical for resource in app.router.resources()}
    for row in modules:
        if row["state"] == "not built":
            continue
        assert row["route"] in routes, f"{row['id']}: no route {row['route']}"
        assert (ROOT / row["test"]).is_file(), f"{row['id']}: no test {row['test']}"
        assert row["test"].startswith("tests/journeys/"), row["id"]
        for feature in row["feature"].split(", "):
            assert ROOT.joinpath(*feature.split(".")).is_dir(), f"{row['id']}: no {feature}"
