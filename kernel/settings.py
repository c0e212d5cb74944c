"""Settings: read once at the start from a TOML file, the environment and the command line.

Later sources win: default, file, environment, command line. The environment name of a setting is
`YUNYING_`, its section and its name in capitals: `dicom.ae_title` is `YUNYING_DICOM_AE_TITLE`.
A secret can also be read from a file: `secret_key_file = "/run/secrets/s3"` or
`YUNYING_OBJECTS_SECRET_KEY_FILE`. A name that does not exist is an error, not ignored.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from kernel.errors import Invalid

PREFIX = "YUNYING_"


def setting(default: Any, doc: str, *, secret: bool = False, choices: tuple[str, ...] = ()) -> Any:
    """Declare one setting with its default and the sentence that documents it."""
    metadata = {"doc": doc, "secret": secret, "choices": choices}
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The web server: pages, DICOMweb and the API."""

    bind: str = setting("127.0.0.1:8080", "Address and port of the web server.")
    processes: int = setting(1, "Number of web processes that share the port.")
    hosts: tuple[str, ...] = setting(
        (), "Host names, besides the loopback ones, that a request may name while on loopback."
    )
    language: str = setting(
        "zh-CN", "Language of a visitor who states none: zh-CN or en.", choices=("zh-CN", "en")
    )
    max_body_bytes: int = setting(
        16 * 1024 * 1024, "Largest request body that is read whole; streamed uploads are not meant."
    )


@dataclass(frozen=True, slots=True)
class DicomSettings:
    """The DICOM (DIMSE) server."""

    bind: str = setting("127.0.0.1:11112", "Address and port of the DICOM server.")
    ae_title: str = setting("YUNYING", "Our AE title, at most 16 characters.")
    accept_unknown_calling: bool = setting(
        True, "Whether calling AE titles that are not registered are accepted."
    )
    max_pdu_bytes: int = setting(262144, "Largest PDU that we announce (PS3.8 D.1).")
    max_associations: int = setting(200, "Associations served at the same time.")
    idle_timeout_s: float = setting(60.0, "An association that is silent this long is aborted.")
    artim_timeout_s: float = setting(
        30.0, "How long a connection may wait without asking for an association (PS3.8 9.1.5)."
    )
    answer_timeout_s: float = setting(
        60.0, "How long a node that we send to may take for one instance."
    )
    private_sop_classes: tuple[str, ...] = setting(
        (), "UIDs of private storage SOP classes that are accepted."
    )
    private_transfer_syntaxes: tuple[str, ...] = setting(
        (), "UIDs of private transfer syntaxes that are accepted."
    )


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Where rows are kept."""

    url: str = setting(
        "",
        "Empty: SQLite in the data folder. Otherwise postgresql://user:password@host/name.",
        secret=True,
    )
    pool: int = setting(8, "Connections that one process keeps at most, for each kind of use.")


@dataclass(frozen=True, slots=True)
class ObjectSettings:
    """Where settled studies are kept."""

    url: str = setting("", "Empty: files in the data folder. Otherwise s3://bucket/prefix.")
    endpoint: str = setting("", "Address of the S3 server; empty means Amazon's.")
    region: str = setting("us-east-1", "Region of the bucket.")
    access_key: str = setting("", "S3 access key.", secret=True)
    secret_key: str = setting("", "S3 secret key.", secret=True)


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """The archive: journal, settling and lifecycle."""

    segment_bytes: int = setting(64 * 1024 * 1024, "A journal segment is closed at this size.")
    spare_bytes: int = setting(
        512 * 1024 * 1024,
        "Disk space kept in journal segments that were written before: a burst of up to this size"
        " is received half as fast again. 0: none.",
    )
    journal_bytes: int = setting(
        2 * 1024 * 1024 * 1024,
        "Above this size of the journal series are settled at once, and receiving pauses for a"
        " fifth to half of the time so that settling keeps up.",
    )
    segment_grace_s: float = setting(
        3600.0, "A segment is deleted this long after its last record was settled."
    )
    settle_quiet_s: float = setting(5.0, "A series is settled after this long without news.")
    settle_latest_s: float = setting(
        600.0, "A series is settled at the latest this long after its first unsettled instance."
    )
    study_quiet_s: float = setting(60.0, "A study counts as complete after this long.")
    dying_days: float = setting(7.0, "An object nobody points to is deleted after this long.")


@dataclass(frozen=True, slots=True)
class InternalSettings:
    """How several machines on one database and one object store read each other's journal."""

    bind: str = setting(
        "",
        "Address and port where other nodes may read what is not settled yet; empty: nowhere."
        " Not encrypted: for a network that belongs to the nodes.",
    )
    address: str = setting(
        "", "HOST:PORT where other nodes reach `bind`; empty means the address it listens on."
    )
    secret: str = setting(
        "",
        "What nodes show each other, the same on all of them. Empty: `internal.secret` in the data"
        " folder, which the first start makes.",
        secret=True,
    )


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Accounts, passwords and sessions."""

    password_length: int = setting(10, "Fewest characters of a password.")
    password_classes: int = setting(
        3, "Of small letters, capitals, digits and other characters so many kinds must be there."
    )
    password_history: int = setting(5, "So many earlier passwords may not come again.")
    password_days: int = setting(90, "A password must be changed after so many days; 0: never.")
    lockout_failures: int = setting(5, "After so many wrong passwords an account is locked.")
    lockout_s: float = setting(900.0, "How long an account stays locked.")
    session_idle_s: float = setting(1800.0, "A session ends after so long without a request.")
    session_s: float = setting(43200.0, "A session ends so long after signing in.")
    networks: tuple[str, ...] = setting(
        (),
        "Networks (such as 10.52.0.0/16) from which people may sign in and work; empty: all.",
    )


@dataclass(frozen=True, slots=True)
class SealSettings:
    """What is encrypted in the database: keys that sign, phone numbers, messages that wait."""

    secret: str = setting(
        "",
        "What keys for sealing are derived from, the same on all nodes; never to be changed. Empty:"
        " `seal.secret` in the data folder, which the first start makes. Keep a copy with the"
        " backups: without it what is sealed is lost.",
        secret=True,
    )


@dataclass(frozen=True, slots=True)
class SsoSettings:
    """Single sign-on: other programs, and signing in elsewhere (docs/sso.md)."""

    issuer: str = setting(
        "",
        "Our address as applications see it, such as https://yunying.example; empty: the address of"
        " the request. To be set behind a proxy.",
    )
    access_token_s: float = setting(600.0, "How long an application's access token counts.")
    key_days: float = setting(30.0, "A signing key is followed by a new one after so many days.")
    upstream_issuer: str = setting(
        "",
        "Address of the OpenID provider (another Yunying) where people sign in for the pages of"
        " this server; empty: here.",
    )
    upstream_client_id: str = setting("", "What we are registered as there.")
    upstream_client_secret: str = setting("", "Our secret there.", secret=True)
    upstream_match: str = setting(
        "none",
        "Whom a person is here who comes from there for the first time: nobody until an"
        " administrator has said so (none), or the account with the same login name (login).",
        choices=("none", "login"),
    )
    local_sign_in: bool = setting(
        True, "Whether accounts of this server may sign in here too while people do so elsewhere."
    )


@dataclass(frozen=True, slots=True)
class CitizenSettings:
    """Residents, who sign in with a phone number and a code by SMS."""

    session_s: float = setting(2592000.0, "A resident's session ends so long after signing in.")
    session_idle_s: float = setting(604800.0, "It ends after so long without a request.")
    number_hour: int = setting(5, "Codes that one number is sent in an hour at most.")
    number_day: int = setting(10, "Codes that one number is sent in a day at most.")
    address_hour: int = setting(30, "Codes that one address may ask for in an hour.")
    address_day: int = setting(150, "Codes that one address may ask for in a day.")
    overall_minute: int = setting(120, "Codes that are sent in a minute to all numbers together.")


@dataclass(frozen=True, slots=True)
class SmsSettings:
    """Who carries our SMS."""

    provider: str = setting(
        "outbox",
        "aliyun, tencent, or outbox: messages stay here, where an administrator sees them.",
        choices=("outbox", "aliyun", "tencent"),
    )
    endpoint: str = setting("", "Address of the provider's API; empty: its public one.")
    region: str = setting("ap-guangzhou", "Region of the provider's API (Tencent Cloud only).")
    access_key: str = setting("", "AccessKey ID, or SecretId.", secret=True)
    secret_key: str = setting("", "AccessKey secret, or SecretKey.", secret=True)
    app_id: str = setting("", "SmsSdkAppId (Tencent Cloud only).")
    sign_name: str = setting("", "The signature that recipients see, as approved by the provider.")
    template_login: str = setting(
        "", "The provider's template for sign-in codes; it has the code as its one parameter."
    )
    report_key: str = setting(
        "",
        "Part of the address that the provider pushes delivery reports to:"
        " /sms/reports/PROVIDER/KEY; empty: reports are refused.",
        secret=True,
    )
    show_texts: bool = setting(
        False, "Whether the outbox shows codes: for demonstrations on this machine only."
    )


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Who else hears of accesses, and how long they are kept."""

    repositories: tuple[str, ...] = setting(
        (),
        "Audit record repositories (IHE ITI-20) that every row is sent to as a DICOM audit message:"
        " tls://HOST:PORT or tcp://HOST:PORT (not encrypted).",
    )
    tls_authority: str = setting(
        "", "File with the certificates that repositories are checked by; empty: the system's."
    )
    tls_certificate: str = setting("", "File with our certificate for repositories that ask.")
    tls_key: str = setting("", "File with the key of that certificate.")
    rules: str = setting(
        "", "File with the rules of abnormal use (TOML); empty: kernel/audit_rules/rules.toml."
    )
    keep_days: int = setting(
        0, "Rows older than so many days leave the table into sealed files; 0: never; at least 183."
    )
    site: str = setting("", "What repositories are told as the site (AuditEnterpriseSiteID).")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What the processes say about themselves."""

    level: str = setting(
        "info",
        "How much is said: debug, info, warning or error.",
        choices=("debug", "info", "warning", "error"),
    )
    format: str = setting(
        "auto",
        "json, console, or auto: console on a terminal, else json.",
        choices=("auto", "json", "console"),
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set."""

    data: Path = field(
        default=Path("var"),
        metadata={
            "doc": "Folder of the database, the journal and the objects.",
            "secret": False,
            "choices": (),
        },
    )
    node: str = setting("", "Name of this machine among its peers; empty means its host name.")
    http: HttpSettings = field(default_factory=HttpSettings)
    dicom: DicomSettings = field(default_factory=DicomSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    objects: ObjectSettings = field(default_factory=ObjectSettings)
    archive: ArchiveSettings = field(default_factory=ArchiveSettings)
    internal: InternalSettings = field(default_factory=InternalSettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    seal: SealSettings = field(default_factory=SealSettings)
    sso: SsoSettings = field(default_factory=SsoSettings)
    citizens: CitizenSettings = field(default_factory=CitizenSettings)
    sms: SmsSettings = field(default_factory=SmsSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    log: LogSettings = field(default_factory=LogSettings)


@dataclass(frozen=True, slots=True)
class Known:
    """One setting as a program can see it; `name` is dotted, `section` empty at the top."""

    section: str
    key: str
    kind: Any
    default: Any
    doc: str
    secret: bool
    choices: tuple[str, ...]

    @property
    def name(self) -> str:
        """The dotted name, as in the file: `dicom.ae_title`."""
        return f"{self.section}.{self.key}" if self.section else self.key

    @property
    def variable(self) -> str:
        """The name in the environment: `YUNYING_DICOM_AE_TITLE`."""
        return PREFIX + self.name.replace(".", "_").upper()


def known_settings() -> list[Known]:
    """Every setting in the order of its declaration."""
    found: list[Known] = []
    hints = get_type_hints(Settings)
    for top in dataclasses.fields(Settings):
        kind = hints[top.name]
        if dataclasses.is_dataclass(kind):
            found.extend(_fields_of(kind, top.name))
        else:
            found.append(_known("", top, kind))
    return found


def load(
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings from a TOML file, an environment and overrides (dotted name → value).

    An override that is None is skipped, so that unset command line options can be passed on.
    Raises Invalid `settings.*` with the name and what was expected.
    """
    by_name = {one.name: one for one in known_settings()}
    values: dict[str, Any] = {}
    if config is not None:
        values.update(_from_file(config, by_name))
    values.update(_from_environment(environ or {}, by_name))
    for name, value in (overrides or {}).items():
        if name not in by_name:
            raise Invalid("settings.unknown", "There is no setting {name}.", name=name)
        if value is not None:
            values[name] = _convert(by_name[name], value)
    return _build(values)


def split_address(bind: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; IPv6 hosts stand in brackets. Port 0 means any free one."""
    host, colon, port = bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise Invalid("settings.address", "{value} is not HOST:PORT.", value=bind)
    return host, int(port)


def _fields_of(section: Any, name: str) -> list[Known]:
    hints = get_type_hints(section)
    return [_known(name, one, hints[one.name]) for one in dataclasses.fields(section)]


def _known(section: str, one: "dataclasses.Field[Any]", kind: Any) -> Known:
    meta = one.metadata
    return Known(section, one.name, kind, one.default, meta["doc"], meta["secret"], meta["choices"])


def _from_file(config: Path, by_name: Mapping[str, Known]) -> dict[str, Any]:
    try:
        tree = tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise Invalid(
            "settings.file",
            "The settings file {file} cannot be read: {why}.",
            file=str(config),
            why=error.strerror or str(error),
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(
            "settings.file",
            "The settings file {file} cannot be read: {why}.",
            file=str(config),
            why=str(error),
        ) from error
    values: dict[str, Any] = {}
    for name, value in _flatten(tree):
        plain = name.removesuffix("_file")
        if name in by_name:
            values[name] = _convert(by_name[name], value)
        elif plain != name and plain in by_name and by_name[plain].secret:
            values[plain] = _secret(name, str(value))
        else:
            raise Invalid("settings.unknown", "There is no setting {name}.", name=name)
    return values


def _flatten(tree: Mapping[str, Any]) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.extend((f"{key}.{inner}", one) for inner, one in value.items())
        else:
            flat.append((key, value))
    return flat


def _from_environment(environ: Mapping[str, str], by_name: Mapping[str, Known]) -> dict[str, Any]:
    by_variable = {one.variable: one for one in by_name.values()}
    sections = tuple({f"{PREFIX}{one.section.upper()}_" for one in by_name.values() if one.section})
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        plain = variable.removesuffix("_FILE")
        if variable in by_variable:
            known = by_variable[variable]
            values[known.name] = _convert(known, text)
        elif plain != variable and plain in by_variable and by_variable[plain].secret:
            values[by_variable[plain].name] = _secret(variable, text)
        elif variable.startswith(sections):
            raise Invalid("settings.unknown", "There is no setting {name}.", name=variable)
    return values


def _secret(name: str, file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(
            "settings.secret", "The secret file that {name} names cannot be read.", name=name
        ) from error


def _convert(known: Known, value: Any) -> Any:
    try:
        converted = _as_kind(known.kind, value)
    except (TypeError, ValueError) as error:
        raise _wrong(known, value) from error
    if known.choices and converted not in known.choices:
        raise _wrong(known, value)
    return converted


def _wrong(known: Known, value: Any) -> Invalid:
    return Invalid(
        "settings.value",
        "{name} must be {expected}, not {value}.",
        name=known.name,
        expected=", ".join(known.choices) or kind_name(known.kind),
        value="…" if known.secret else value,
    )


def kind_name(kind: Any) -> str:
    """How the documentation calls a type."""
    if get_origin(kind) is tuple:
        return "list of text"
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}.get(
        kind, "path"
    )


def _as_kind(kind: Any, value: Any) -> Any:
    if get_origin(kind) is tuple:
        parts = value.split(",") if isinstance(value, str) else list(value)
        return tuple(get_args(kind)[0](part.strip()) for part in parts if part.strip())
    if kind is bool:
        return _as_bool(value)
    if isinstance(value, bool) or (kind is str and not isinstance(value, str)):
        raise TypeError(value)
    if kind is int and isinstance(value, float):
        raise TypeError(value)
    return kind(value)


def _as_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError(value)
    return words[value.lower()]


def _build(values: Mapping[str, Any]) -> Settings:
    top: dict[str, Any] = {}
    hints = get_type_hints(Settings)
    for one in dataclasses.fields(Settings):
        kind = hints[one.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            inner = dataclasses.fields(kind)
            names = {part.name: f"{one.name}.{part.name}" for part in inner}
            top[one.name] = kind(**{k: values[n] for k, n in names.items() if n in values})
        elif one.name in values:
            top[one.name] = values[one.name]
    return Settings(**top)
