"""Running a search against the archive's catalog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydicom.datadict import keyword_for_tag

from archive.query.domain import Query
from archive.query.service import Catalog
from dicomweb.search.domain import SearchRequest
from dicomweb.search.wire import present
from kernel.scope import Scope


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The matches as DICOM JSON and sentences for the Warning header."""

    datasets: list[dict[str, Any]]
    warnings: list[str]


async def search(
    catalog: Catalog, scope: Scope, request: SearchRequest, service_url: str
) -> SearchAnswer:
    """Matches of `request` within `scope`, in the catalog's order.

    Raises `Invalid('query.…')` for values that the catalog cannot understand.
    """
    if request.limit == 0:
        return SearchAnswer([], [])
    page = await catalog.search(
        scope,
        Query(
            level=request.level,
            match=request.match,
            include=request.include,
            limit=request.limit,
            offset=request.offset,
            fuzzy=request.fuzzy,
        ),
    )
    datasets = [present(match.dataset, request.level, service_url) for match in page.matches]
    warnings = []
    ignored = [*request.ignored, *(_name(tag) for tag in sorted(page.unsupported))]
    if ignored:
        warnings.append(f"These parameters are not supported and were ignored: {_list(ignored)}.")
    if page.more:
        # PS3.18 10.6.3.2 asks for their number; counting them would cost more than the answer.
        warnings.append("There are additional results that can be requested.")
    return SearchAnswer(datasets, warnings)


def _name(tag: int) -> str:
    return keyword_for_tag(tag) or f"{tag:08X}"


def _list(names: list[str]) -> str:
    return ", ".join(name[:64] for name in names[:50])
