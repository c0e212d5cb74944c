"""Routes of the study browser."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web
from pydicom.uid import EncapsulatedPDFStorage

from archive.query.domain import Query
from archive.retrieve.domain import StoredInstance, check_named
from dataset.refs import InstanceRef, SeriesRef, StudyRef, parse_uid
from dicomweb.browse.decided import study_notes
from dicomweb.browse.facts import series_facts, study_facts, text
from dicomweb.browse.kinds import CHIPS
from dicomweb.browse.report import report_lines
from dicomweb.browse.search_form import PERIODS, SearchForm, read_form, to_query
from dicomweb.browse.stacks import group_by_series, series_stacks, stack_data
from dicomweb.browse.tag_rows import tag_rows
from dicomweb.browse.words import HELP, UPLOAD_WORDS, VIEWER_WORDS, PageWords, script_words
from dicomweb.browse.zip_stream import zip_stream
from dicomweb.requests import instance_of
from dicomweb.retrieve.bulkdata import read_value
from dicomweb.services import CATALOG, DESK, READER
from kernel.errors import Invalid, NotFound
from kernel.i18n.catalog import translate
from kernel.settings import Settings
from kernel.web.guard import requires, scope_of
from kernel.web.language import SETTINGS, language_of
from kernel.web.pages import add_templates, render

ARRIVING_S = 60.0
MOST_SERIES = 2000
ENCAPSULATED_DOCUMENT = "00420011"
TEMPLATES = Path(__file__).parent / "templates"


def setup(app: web.Application) -> None:
    """Add the pages; `dicomweb.routes.setup` gives them the catalogue and the reader."""
    add_templates(app, TEMPLATES)
    series = "/studies/{study}/series/{series}"
    instance = series + "/instances/{instance}"
    app.router.add_get("/studies", studies_page)
    app.router.add_post("/studies", studies_page)
    app.router.add_post("/studies/search", search_results)
    app.router.add_get("/studies/{study}", study_page)
    app.router.add_get("/studies/{study}/download", download_study)
    app.router.add_get(series + "/stacks/{stack}", stack_members)
    app.router.add_get(instance + "/elements", instance_elements)
    app.router.add_get(instance + "/report", instance_report)
    app.router.add_get(instance + "/document", instance_document)
    app.router.add_get(instance + "/download", download_instance)


@requires("archive.study.search")
async def studies_page(request: web.Request) -> web.Response:
    """GET /studies; POST /studies is the search form of a browser without scripts."""
    context = await _found(request, await _form(request))
    lang = language_of(request)
    context |= {
        "periods": PERIODS,
        "chips": CHIPS,
        "script_words": script_words(UPLOAD_WORDS, lang),
    }
    return render(request, "browse/studies.html", context)


@requires("archive.study.search")
async def search_results(request: web.Request) -> web.Response:
    """POST /studies/search: one page of the list as a fragment."""
    return render(request, "browse/study_list.html", await _found(request, await _form(request)))


async def _form(request: web.Request) -> SearchForm:
    if request.method != "POST":
        return SearchForm()
    posted = await request.post()
    fields = {name: value for name, value in posted.items() if isinstance(value, str)}
    chips = tuple(str(chip) for chip in posted.getall("modality", []))
    return read_form(fields, chips)


async def _found(request: web.Request, form: SearchForm) -> dict[str, Any]:
    """What the study list shows for `form`; a search that cannot be says why."""
    now = datetime.now(UTC)
    today = now.astimezone().date()
    context = _context(request, today) | {"form": form, "studies": [], "after": None, "problem": ""}
    try:
        page = await request.app[CATALOG].search(scope_of(request), to_query(form, today))
    except Invalid as error:
        problem = translate(error.message, language_of(request), **error.fields)
        return context | {"problem": problem}
    context["studies"] = [
        study_facts(match.dataset, match.received_at, now, ARRIVING_S) for match in page.matches
    ]
    context["after"] = page.after if page.more else None
    return context


def _context(request: web.Request, today: date) -> dict[str, Any]:
    words = PageWords(language_of(request), today)
    return {"words": words, "node": _node(request, request.app[SETTINGS])}


def _node(request: web.Request, settings: Settings) -> dict[str, str]:
    """Where modalities send to; a node that listens on every address is reached like this page."""
    host, _, port = settings.dicom.bind.rpartition(":")
    if host.strip("[]") in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = request.url.host or ""
    return {"ae_title": settings.dicom.ae_title, "host": host, "port": port}


@requires("archive.study.read")
async def study_page(request: web.Request) -> web.Response:
    """GET /studies/{study}"""
    ref = StudyRef.parse(request.match_info["study"])
    scope = scope_of(request)
    instances = await request.app[READER].find(scope, ref)
    match = {0x0020000D: ref.study_instance_uid}
    catalog = request.app[CATALOG]
    found = await catalog.search(scope, Query("STUDY", match, limit=1))
    listed = await catalog.search(scope, Query("SERIES", match, limit=MOST_SERIES))
    now = datetime.now(UTC)
    study = found.matches[0]
    members = group_by_series(instances)
    lang = language_of(request)
    # Corrections and contradictions quote what the objects say of the patient.
    hidden = any(one.masked for one in instances)
    states = [] if hidden else await request.app[DESK].about(scope, ref)
    facts = [series_facts(entry.dataset) for entry in listed.matches]
    institution = next((text(each.dataset, "00080080") for each in listed.matches), "")
    context = _context(request, now.astimezone().date()) | {
        "study": study_facts(study.dataset, study.received_at, now, ARRIVING_S),
        "series": [
            series_stacks(fact, members.get(fact.series_instance_uid, [])) for fact in facts
        ],
        "institution": institution,
        "decided": study_notes(states, lang),
        "instances": len(instances),
        "help": [(translate(keys, lang), translate(meaning, lang)) for keys, meaning in HELP],
        "script_words": script_words(VIEWER_WORDS, lang),
    }
    return render(request, "browse/study.html", context)


@requires("archive.study.read")
async def stack_members(request: web.Request) -> web.Response:
    """GET …/series/{series}/stacks/{stack}: what one tile opens, for the viewer."""
    path = request.match_info
    instances = await request.app[READER].find(
        scope_of(request), SeriesRef.parse(path["study"], path["series"])
    )
    members = stack_data(instances, parse_uid(path["stack"]))
    return web.json_response(members, headers={"Cache-Control": "no-store"})


@requires("archive.study.read")
async def instance_elements(request: web.Request) -> web.Response:
    """GET …/instances/{instance}/elements: the DICOM elements as a table."""
    ref = instance_of(request)
    dataset = await request.app[READER].instance_metadata(scope_of(request), ref)
    context = {"rows": tag_rows(dataset), "file_url": request.path.replace("elements", "download")}
    return render(request, "browse/elements.html", context)


@requires("archive.study.read")
async def instance_report(request: web.Request) -> web.Response:
    """GET …/instances/{instance}/report: the content of a structured report."""
    ref = instance_of(request)
    dataset = await request.app[READER].instance_metadata(scope_of(request), ref)
    return render(request, "browse/report.html", {"lines": report_lines(dataset)})


@requires("archive.study.read")
async def instance_document(request: web.Request) -> web.Response:
    """GET …/instances/{instance}/document: the PDF file inside an object (PS3.3 C.24.2)."""
    reader = request.app[READER]
    [instance, *_] = await reader.find(scope_of(request), instance_of(request))
    check_named([instance])
    if instance.sop_class_uid != EncapsulatedPDFStorage:
        raise NotFound("document.not_found", "This object holds no document.")
    content = await read_value(reader, instance, ENCAPSULATED_DOCUMENT)
    headers = {"Content-Disposition": "inline", "Cache-Control": "no-store"}
    return web.Response(body=content, content_type="application/pdf", headers=headers)


@requires("archive.study.read")
async def download_instance(request: web.Request) -> web.StreamResponse:
    """GET …/instances/{instance}/download: the DICOM file as it was received."""
    ref: InstanceRef = instance_of(request)
    reader = request.app[READER]
    [instance, *_] = await reader.find(scope_of(request), ref)
    check_named([instance])
    name = f"{instance.sop_instance_uid}.dcm"
    return await _send(request, "application/dicom", name, reader.stream(instance))


@requires("archive.study.read")
async def download_study(request: web.Request) -> web.StreamResponse:
    """GET /studies/{study}/download: every object of the study in one ZIP file."""
    ref = StudyRef.parse(request.match_info["study"])
    reader = request.app[READER]
    instances = await reader.find(scope_of(request), ref)
    check_named(instances)
    names = _member_names(instances)
    members = ((name, reader.stream(each)) for name, each in zip(names, instances, strict=True))
    content = zip_stream(members, datetime.now(UTC).astimezone())
    return await _send(request, "application/zip", f"{ref.study_instance_uid}.zip", content)


def _member_names(instances: list[StoredInstance]) -> list[str]:
    """File names in a ZIP file: a folder for each series, objects in order, nobody's name."""
    folders: dict[str, int] = {}
    names: list[str] = []
    for each in instances:
        folder = folders.setdefault(each.series_instance_uid, len(folders) + 1)
        names.append(f"series_{folder:03d}/{len(names) + 1:05d}_{each.sop_instance_uid}.dcm")
    return names


async def _send(
    request: web.Request, media_type: str, name: str, content: AsyncIterator[bytes]
) -> web.StreamResponse:
    safe = quote(re.sub(r"[^\w.-]", "_", name))
    headers = {
        "Content-Type": media_type,
        "Content-Disposition": f'attachment; filename="{safe}"',
        "Cache-Control": "no-store",
    }
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    async for chunk in content:
        await response.write(chunk)
    await response.write_eof()
    return response
