"""The page docs/settings.md, made from the settings' own declarations.

Run as `python -m kernel.settings_page > docs/settings.md`; a test compares.
"""

import dataclasses
import sys
from typing import Any, get_type_hints

from kernel.settings import Known, Settings, kind_name, known_settings

_HEAD = """# Settings

Made from `kernel/settings.py` by `python -m kernel.settings_page`; do not edit.

A setting is read from, later ones win: its default, the TOML file given by `--config`, the
environment, the command line. A name that does not exist is refused. Secrets can also be read from
a file: append `_file` to the name in the TOML file, or `_FILE` in the environment.
"""


def page() -> str:
    """The whole page as Markdown."""
    parts = [_HEAD]
    section: str | None = None
    for one in known_settings():
        if one.section != section:
            section = one.section
            parts.append(_section_head(section))
        parts.append(_line(one))
    return "\n".join(parts) + "\n"


def _section_head(section: str) -> str:
    title, doc = "Top level", Settings.__doc__
    if section:
        kind: Any = get_type_hints(Settings)[section]
        title, doc = f"[{section}]", kind.__doc__
    columns = "| setting | default | environment | meaning |\n| --- | --- | --- | --- |"
    return f"\n## {title}\n\n{doc}\n\n{columns}"


def _line(one: Known) -> str:
    meaning = f"{one.doc} ({kind_name(one.kind)}{', secret' if one.secret else ''})"
    return f"| `{one.key}` | {_default(one)} | `{one.variable}` | {meaning} |"


def _default(one: Known) -> str:
    if one.default in ("", ()):
        return "empty"
    if one.default is dataclasses.MISSING:
        raise ValueError(f"{one.name} has no default")
    text = str(one.default).lower() if isinstance(one.default, bool) else str(one.default)
    return f"`{text}`"


if __name__ == "__main__":
    sys.stdout.write(page())
