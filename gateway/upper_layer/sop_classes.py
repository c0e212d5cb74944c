"""Which SOP classes and transfer syntaxes are spoken: PS3.6 Annex A, as pydicom knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydicom._uid_dict import UID_dictionary

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
# Data sets of queries are encoded in one of these; big endian is retired (PS3.5 A.3).
QUERY_SYNTAXES = (EXPLICIT_LE, IMPLICIT_LE)

# In PS3.6, not yet in the pydicom dictionary at hand.
NEWER_STORAGE = {
    "1.2.840.10008.5.1.4.1.1.9.100.1": "Waveform Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.2": "Waveform Acquisition Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation Storage",
}
NEWER_SYNTAXES = {
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
}
# Storage by name, but not stored over the network.
NOT_STORED = ("1.2.840.10008.1.3.10", "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.2")
STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."

Verb = Literal["FIND", "MOVE", "GET"]
Root = Literal["PATIENT", "STUDY", "PATIENT_STUDY_ONLY"]


@dataclass(frozen=True, slots=True)
class QueryClass:
    """A Query/Retrieve SOP Class: information model and verb (PS3.4 C.6)."""

    root: Root
    verb: Verb


# PS3.4 C.6.1.3, C.6.2.3 and the retired C.6.3.
QUERY_ROOTS: tuple[tuple[int, Root], ...] = (
    (1, "PATIENT"),
    (2, "STUDY"),
    (3, "PATIENT_STUDY_ONLY"),
)
QUERY_VERBS: tuple[tuple[int, Verb], ...] = ((1, "FIND"), (2, "MOVE"), (3, "GET"))
QUERY_CLASSES: dict[str, QueryClass] = {
    f"1.2.840.10008.5.1.4.1.2.{model}.{number}": QueryClass(root, verb)
    for model, root in QUERY_ROOTS
    for number, verb in QUERY_VERBS
}


def storage_classes() -> frozenset[str]:
    """Every storage SOP class of the dictionary, those retired too."""
    found = set(NEWER_STORAGE)
    for uid, (name, kind, *_) in UID_dictionary.items():
        if kind != "SOP Class" or uid in NOT_STORED:
            continue
        nameless = not name and uid.startswith(STORAGE_ROOT)
        if nameless or "Storage" in name:
            found.add(uid)
    return frozenset(found)


def transfer_syntaxes() -> frozenset[str]:
    """Every transfer syntax of the dictionary, those retired too."""
    known = {uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    return frozenset(known.union(NEWER_SYNTAXES))
