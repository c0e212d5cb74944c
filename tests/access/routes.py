"""What every route of the running application is expected to do: one row for each.

A route without a row fails `test_matrix`. A row says what kind of route it is, how its address and
body are filled, and with which status it answers those who may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# public   answers everybody alike and shows nothing of any tenant
# self     shows the asker's own account to whoever has one
# system   shows nothing of any tenant to those with the permission somewhere
# list     shows exactly the studies of the asker's scope
# search   lists what is in one study for those who see it, nothing to others (PS3.18 10.6.3.1)
# study    shows one study (series, instance) to those who see it, 404 to others
# change   changes one study for those who see it, 404 to others
# patient  changes two patients for those who see both, 404 to others
# store    stores for the asker's own organisation
# find     finds the studies of the asker's scope by what is posted, for whoever has an account
# things   lists exactly the organisations (accounts …) of the asker's scope
# thing    shows or changes one of them to those who see it, 404 to others
Kind = Literal[
    "public",
    "self",
    "system",
    "list",
    "search",
    "study",
    "change",
    "patient",
    "store",
    "find",
    "things",
    "thing",
]
Thing = Literal["organisation", "account", "node", "client"]


@dataclass(frozen=True, slots=True)
class Row:
    """`document` asks for the object that is no image; `body` is sent as JSON, `form` as a form.

    `of` says what kind of thing a route lists or shows, `missing` how it answers who does not see
    what was asked for.
    """

    kind: Kind
    ok: frozenset[int] = frozenset({200})
    document: bool = False
    body: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None
    accept: str = "*/*"
    fill: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    of: Thing = "organisation"
    missing: int = 404


_STUDY = "/dicom-web/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"
_PAGE = "/studies/{study}"
_PAGE_INSTANCE = _PAGE + "/series/{series}/instances/{instance}"
_JSON = "application/dicom+json"
_FILE = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_ONE = {"frames": "1"}
_WHY = {"reason": "matrix"}
_NAME = {"attributes": {"StudyDescription": "corrected"}}
_KINDS = {"kinds": ["vip"]}
_PATIENTS = {"reason": "matrix", "patient": {"id": "{patient}"}, "into": {"id": "{into}"}}
_PLACE = "/organisations/{organisation}"
_ACCOUNT = "/accounts/{account}"
READ = "archive.study.read"
# A form of a page of ours is refused without its token.
_REFUSED = frozenset({403})
# A form that is not filled in changes nothing.
_BAD = frozenset({400})
_NO_STEP = frozenset({409})
_DONE = frozenset({303})
_NONE = frozenset({404})
_NO_CLIENT = frozenset({400, 401})

ROUTES: Mapping[str, Row] = {
    # Everybody
    "GET /healthz": Row("public", ok=frozenset({200, 503})),
    "GET /static/{path}": Row("public", ok=frozenset({404}), fill={"path": "none"}),
    "GET /login": Row("public", ok=frozenset({200, 303})),
    "POST /login": Row("public", ok=_REFUSED, form={"login": "nobody", "password": "x"}),
    "GET /login/code": Row("public", ok=frozenset({200, 303})),
    "POST /login/code": Row("public", ok=frozenset({303, 401, 403}), form={"code": "1"}),
    "POST /logout": Row("public", ok=frozenset({303, 401, 403}), form={}),
    # Signing in elsewhere, which this installation does not
    "GET /login/elsewhere": Row("public", ok=_NONE),
    "GET /login/callback": Row("public", ok=_NONE),
    "GET /login/out": Row("public", ok=_NONE),
    "POST /login/ended": Row("public", ok=_NONE, form={}),
    # Single sign-on: nothing without an application and its person
    "GET /.well-known/openid-configuration": Row("public"),
    "GET /sso/jwks": Row("public"),
    "GET /sso/authorize": Row("public", ok=frozenset({400})),
    "POST /sso/consent": Row("public", ok=frozenset({303, 403}), form={}),
    "GET /sso/logout": Row("public"),
    "POST /sso/logout": Row("public", form={}),
    "POST /sso/token": Row("public", ok=_NO_CLIENT, form={"grant_type": "x"}),
    "POST /sso/revoke": Row("public", ok=_NO_CLIENT, form={"token": "x"}),
    "POST /sso/introspect": Row("public", ok=_NO_CLIENT, form={"token": "x"}),
    "GET /sso/userinfo": Row("public", ok=frozenset({200, 401})),
    "POST /sso/userinfo": Row("public", ok=frozenset({200, 401}), form={}),
    # Residents
    "GET /my/login": Row("public"),
    "POST /my/login": Row("public", ok=_REFUSED, form={"number": "13800000000"}),
    "POST /my/login/code": Row("public", ok=_REFUSED, form={"code": "000000"}),
    "GET /my/authorize": Row("public", ok=frozenset({400})),
    "POST /my/consent": Row("public", ok=frozenset({303}), form={}),
    "GET /my/leave": Row("public"),
    "POST /my/leave": Row("public", form={}),
    "GET /my": Row("self"),
    "POST /my/logout": Row("self", form={}),
    "POST /my/sessions/{session}/end": Row("self", form={}, fill={"session": "1"}),
    "POST /sms/reports/{provider}/{token}": Row(
        "public", ok=_NONE, form={}, fill={"provider": "aliyun", "token": "x"}
    ),
    # Applications: changed only by who administers everything, which nobody here does
    "GET /applications": Row("system"),
    "GET /applications/new": Row("system"),
    "POST /applications/new": Row("system", ok=_REFUSED, form={}),
    "GET /applications/{application}": Row("system", ok=_NONE, fill={"application": "9"}),
    "POST /applications/{application}": Row("system", ok=_NONE, form={}, fill={"application": "9"}),
    "POST /applications/{application}/secret": Row(
        "system", ok=_NONE, form={}, fill={"application": "9"}
    ),
    "POST /applications/{application}/state": Row(
        "system", ok=_REFUSED, form={}, fill={"application": "9"}
    ),
    "POST /applications/keys/rotate": Row("system", ok=_REFUSED, form={}),
    "GET /messages": Row("system"),
    "POST /messages": Row("system", form={}),
    # One's own account
    "GET /account": Row("self"),
    "GET /account/password": Row("self"),
    "POST /account/password": Row("self", ok=_REFUSED, form={"new": "y"}),
    "GET /account/totp": Row("self"),
    "POST /account/totp": Row("self", ok=_REFUSED, form={"do": "none"}),
    "POST /account/sessions/{session}/end": Row(
        "self", ok=_REFUSED, form={}, fill={"session": "1"}
    ),
    # The system
    "GET /metrics": Row("system"),
    "GET /audit": Row("system"),
    "POST /audit": Row("system", form={}),
    "POST /audit/lines": Row("system", form={}),
    "POST /audit/export": Row("system", form={}),
    "POST /audit/findings/{number}": Row(
        "system", ok=frozenset({200, 303, 404}), form={}, fill={"number": "1"}
    ),
    "GET /fhir/R4/AuditEvent": Row("system"),
    "GET /fhir/R4/AuditEvent/{number}": Row(
        "system", ok=frozenset({200, 404}), fill={"number": "999999"}
    ),
    # The console
    "GET /": Row("self"),
    "GET /overview": Row("self"),
    "GET /search": Row("self"),
    "POST /search": Row("find"),
    "GET /modules": Row("system"),
    "POST /modules": Row("system", form={}),
    "GET /jobs": Row("system"),
    "GET /jobs/{job}": Row("system", ok=_NONE, fill={"job": "999999"}),
    "POST /jobs/{job}/cancel": Row("system", ok=_NONE, form={}, fill={"job": "999999"}),
    # Organisations
    "GET /organisations": Row("things"),
    "POST /organisations": Row("things", form={}),
    "GET /organisations/export.xlsx": Row("things"),
    "GET /organisations/template.xlsx": Row("system"),
    "GET /organisations/new": Row("system"),
    "POST /organisations/new": Row("system", ok=_BAD, form={}),
    "GET /organisations/import": Row("system"),
    "POST /organisations/import": Row("system", ok=_BAD, form={}),
    "GET /organisations/import/{job}": Row("system", ok=_NONE, fill={"job": "999999"}),
    "POST /organisations/import/{job}/cancel": Row(
        "system", ok=_NONE, form={}, fill={"job": "999999"}
    ),
    f"GET {_PLACE}": Row("thing"),
    f"GET {_PLACE}/edit": Row("thing"),
    f"POST {_PLACE}/edit": Row("thing", ok=_BAD, form={"name": ""}),
    f"GET {_PLACE}/move": Row("thing"),
    f"POST {_PLACE}/move": Row("thing", ok=_BAD, form={}),
    f"POST {_PLACE}/step": Row("thing", ok=_NO_STEP, form={"step": "none"}),
    # Accounts, and what they hold
    "GET /accounts": Row("things", of="account"),
    "POST /accounts": Row("things", of="account", form={}),
    "GET /accounts/new": Row("system"),
    "POST /accounts/new": Row("system", ok=_BAD, form={}),
    f"GET {_ACCOUNT}": Row("thing", of="account"),
    f"GET {_ACCOUNT}/edit": Row("thing", of="account"),
    f"POST {_ACCOUNT}/edit": Row("thing", of="account", ok=_BAD, form={"display_name": ""}),
    f"POST {_ACCOUNT}/step": Row("thing", of="account", ok=_NO_STEP, form={"step": "none"}),
    f"POST {_ACCOUNT}/reset": Row("thing", of="account", form={}),
    f"POST {_ACCOUNT}/sign-out": Row("thing", of="account", ok=_DONE, form={}),
    f"POST {_ACCOUNT}/grants": Row("thing", of="account", ok=_BAD, form={}),
    "POST /grants/{grant}/withdraw": Row("system", ok=_NONE, form={}, fill={"grant": "999999"}),
    "GET /sessions": Row("system"),
    "POST /sessions": Row("system", form={}),
    "POST /sessions/{session}/end": Row(
        "system", ok=_NONE, form={"account": "999999"}, fill={"session": "999999"}
    ),
    "GET /roles": Row("system"),
    "GET /roles/new": Row("system"),
    "POST /roles/new": Row("system", ok=_BAD, form={}),
    "GET /roles/{role}/edit": Row("system", ok=_NONE, fill={"role": "auditor"}),
    "POST /roles/{role}/edit": Row("system", ok=_NONE, form={}, fill={"role": "auditor"}),
    "POST /roles/{role}/remove": Row("system", ok=_REFUSED, form={}, fill={"role": "auditor"}),
    # Clients
    "GET /clients": Row("things", of="client"),
    "POST /clients": Row("things", of="client", form={}),
    "GET /clients/new": Row("system"),
    "POST /clients/new": Row("system", ok=_BAD, form={}),
    "POST /clients/{client}/rotate": Row("thing", of="client", form={}),
    "POST /clients/{client}/revoke": Row("thing", of="client", ok=frozenset({303, 404}), form={}),
    # Who sees what, and emergencies; an institution is chosen from all of them
    "GET /access": Row("system"),
    "POST /access": Row("study", form={"study": "{study}", "action": READ}, missing=400),
    "GET /access/review.{format}": Row("things", of="account", fill={"format": "csv"}),
    "GET /break-glass": Row("system"),
    "POST /break-glass": Row("system", ok=_BAD, form={}),
    "GET /reviews": Row("system"),
    "POST /reviews/{review}": Row("system", ok=_BAD, form={}, fill={"review": "999999"}),
    # DICOM nodes
    "GET /aes": Row("things", of="node"),
    "POST /aes": Row("things", of="node", form={}),
    "GET /aes/new": Row("system"),
    "POST /aes/new": Row("system", ok=_BAD, form={}),
    "GET /aes/edit": Row("thing", of="node", query="title={node}"),
    "POST /aes/edit": Row("thing", of="node", ok=_BAD, form={"title": "{node}"}),
    "POST /aes/echo": Row("thing", of="node", form={"title": "{node}"}),
    "POST /aes/remove": Row("thing", of="node", ok=frozenset({303, 404}), form={"title": "{node}"}),
    # Searches
    "GET /studies": Row("list"),
    "POST /studies": Row("list", form={}),
    "POST /studies/search": Row("list", form={}),
    "GET /dicom-web/studies": Row("list", accept=_JSON, query="includefield=all"),
    "GET /dicom-web/series": Row("list", accept=_JSON, query="includefield=all"),
    "GET /dicom-web/instances": Row("list", accept=_JSON, query="includefield=all"),
    f"GET {_STUDY}/series": Row("search", accept=_JSON),
    f"GET {_STUDY}/instances": Row("search", accept=_JSON),
    f"GET {_SERIES}/instances": Row("search", accept=_JSON),
    # Retrieval
    f"GET {_STUDY}": Row("study", accept=_FILE),
    f"GET {_SERIES}": Row("study", accept=_FILE),
    f"GET {_INSTANCE}": Row("study", accept=_FILE),
    f"GET {_STUDY}/metadata": Row("study", accept=_JSON),
    f"GET {_SERIES}/metadata": Row("study", accept=_JSON),
    f"GET {_INSTANCE}/metadata": Row("study", accept=_JSON),
    f"GET {_INSTANCE}/bulkdata/{{path}}": Row("study", document=True, fill={"path": "00420011"}),
    f"GET {_FRAMES}": Row("study", fill=_ONE),
    f"GET {_FRAMES}/rendered": Row("study", fill=_ONE),
    f"GET {_FRAMES}/thumbnail": Row("study", fill=_ONE),
    f"GET {_INSTANCE}/rendered": Row("study"),
    f"GET {_INSTANCE}/thumbnail": Row("study"),
    f"GET {_SERIES}/thumbnail": Row("study"),
    f"GET {_STUDY}/thumbnail": Row("study"),
    # Pages about one study
    f"GET {_PAGE}": Row("study"),
    f"GET {_PAGE}/download": Row("study"),
    f"GET {_PAGE}/series/{{series}}/stacks/{{stack}}": Row("study", fill={"stack": "{series}"}),
    f"GET {_PAGE_INSTANCE}/elements": Row("study"),
    f"GET {_PAGE_INSTANCE}/report": Row("study"),
    f"GET {_PAGE_INSTANCE}/document": Row("study", document=True),
    f"GET {_PAGE_INSTANCE}/download": Row("study"),
    # Decisions
    "POST /api/merges": Row("patient", ok=frozenset({200, 409}), body=_PATIENTS),
    "POST /api/merges/undo": Row("patient", ok=frozenset({200, 409}), body=_PATIENTS),
    "GET /api/studies/{study}/decisions": Row("study"),
    "POST /api/studies/{study}/hold": Row("change", ok=frozenset({200, 409}), body=_WHY),
    "POST /api/studies/{study}/release": Row("change", ok=frozenset({200, 409}), body=_WHY),
    "POST /api/studies/{study}/classify": Row("change", body=_WHY | _KINDS),
    "POST /api/studies/{study}/correct": Row("change", body=_WHY | _NAME),
    "POST /api/studies/{study}/choose": Row(
        "change",
        body=_WHY | {"series": "{series}", "instance": "{instance}", "version": None},
    ),
    "POST /api/studies/{study}/reject": Row(
        "change", ok=frozenset({200, 409}), body=_WHY | {"code": "113001"}
    ),
    "POST /api/studies/{study}/restore": Row("change", ok=frozenset({200, 409}), body=_WHY),
    # Named last: what is deleted is not there for the next one.
    "POST /api/studies/{study}/delete": Row("change", ok=frozenset({200, 404}), body=_WHY),
    # Storing
    "POST /dicom-web/studies": Row("store"),
    "POST /dicom-web/studies/{study}": Row("store"),
}
