"""What is known of an application entity, and which titles there can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from archive.versions.domain import POLICIES, SameUid
from kernel.errors import Invalid

AeState = Literal["active", "suspended"]
LOCAL_OWNER = 1


@dataclass(frozen=True, slots=True)
class Ae:
    """A DICOM node. ``charset`` is the Specific Character Set its answers use, '' for none set;
    ``same_uid`` says which data set is shown when it sends another one under a known UID.
    """

    title: str
    host: str
    port: int
    owner_id: int = LOCAL_OWNER
    charset: str = ""
    state: AeState = "active"
    same_uid: SameUid = "first"


def check_title(title: str) -> str:
    r"""An AE title without padding: 1 to 16 printable ASCII characters, no backslash (PS3.5 6.2).

    Raises:
        Invalid: ``ae.title``.
    """
    plain = title.strip(" ")
    if not 1 <= len(plain) <= 16 or not all(" " <= c <= "~" and c != "\\" for c in plain):
        raise Invalid(
            "ae.title",
            "“{value}” is not an AE title: 1 to 16 ASCII characters without backslash.",
            value=title,
        )
    return plain


def check_same_uid(policy: str) -> SameUid:
    """Raises ``Invalid`` ``ae.same_uid`` for a policy that there is not."""
    for known in POLICIES:
        if policy == known:
            return known
    raise Invalid(
        "ae.same_uid",
        "“{value}” is no policy for the same UID: {known}.",
        value=policy,
        known=", ".join(POLICIES),
    )


def check_address(host: str, port: int) -> None:
    """Raises ``Invalid`` ``ae.address`` for an empty host or a port outside 1 to 65535."""
    if not host.strip() or any(c.isspace() for c in host) or not 1 <= port <= 65535:
        raise Invalid(
            "ae.address", "{host}:{port} is not an address of a DICOM node.", host=host, port=port
        )
