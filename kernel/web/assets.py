"""The built styles and scripts: their hashed names, read from Vite's manifest.

Vite builds kernel/web/frontend into kernel/web/static/dist; `manifest.json` there says which file
an entry (`app`, `browse/study`) became and which style sheets belong to it.
"""

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from kernel.errors import Unavailable

STATIC = Path(__file__).parent / "static"
DIST = STATIC / "dist"
BASE = "/static/dist/"


class Assets:
    """The addresses of built files; `manifest` is the content of Vite's manifest.json."""

    def __init__(self, manifest: dict[str, dict[str, Any]]) -> None:
        self._entries = {
            chunk["name"]: chunk for chunk in manifest.values() if chunk.get("isEntry")
        }
        self._files = {Path(source).name: chunk["file"] for source, chunk in manifest.items()}

    @classmethod
    def load(cls, dist: Path = DIST) -> "Assets":
        """Read the manifest; raises Unavailable where the front end was not built."""
        try:
            return cls(json.loads((dist / "manifest.json").read_text()))
        except FileNotFoundError as error:
            raise Unavailable(
                "web.not_built", "The pages were not built yet: run make setup."
            ) from error

    def tags(self, entry: str) -> Markup:
        """The link and script elements of `entry`; scripts are modules and do not block."""
        chunk = self._entries[entry]
        styles = [
            Markup('<link rel="stylesheet" href="{}">').format(BASE + css)
            for css in chunk.get("css", [])
        ]
        script = Markup('<script type="module" src="{}"></script>').format(BASE + chunk["file"])
        return Markup("\n").join([*styles, script])

    def url(self, name: str) -> str:
        """The address of a built file by the name of its source, such as icons.svg."""
        return f"{BASE}{self._files[name]}"
