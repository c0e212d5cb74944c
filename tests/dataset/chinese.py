"""Chinese personal names drawn as frequently as the population has them."""

from __future__ import annotations

import csv
import random
from pathlib import Path


def rows(shared_data: Path, name: str) -> list[dict[str, str]]:
    """Rows of ``familyname`` or ``givenname``."""
    path = shared_data / "mpi" / "chinese_names" / f"{name}.csv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def draw(shared_data: Path, count: int, seed: int) -> list[tuple[str, str]]:
    """`count` pairs of family and given name, as frequent as in life."""
    family, given = rows(shared_data, "familyname"), rows(shared_data, "givenname")
    surnames = [row["surname"] for row in family]
    surname_weights = [int(row["n.1930_2008"] or 0) + 1 for row in family]
    characters = [row["character"] for row in given]
    weights = [int(row["n.male"]) + int(row["n.female"]) + 1 for row in given]
    chance = random.Random(seed)
    names = []
    for surname in chance.choices(surnames, surname_weights, k=count):
        length = chance.choice((1, 2, 2, 2))
        names.append((surname, "".join(chance.choices(characters, weights, k=length))))
    return names
