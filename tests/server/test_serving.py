"""`yunying serve`: three processes that live and end together, and come back when one crashes."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pynetdicom import AE

from dataset.part10 import file_head
from tests.archive.material import make, uid
from tests.server.running import Running, fails, serve, yunying

VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server on an empty folder for all tests here that leave it running."""
    with serve(tmp_path_factory.mktemp("serve")) as running:
        yield running


def until(true: Callable[[], bool], what: str, within_s: float = 40.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Whether a process is no more (one that nobody waited for counts as gone)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def echo(port: int) -> bool:
    """Whether the DICOM server answers."""
    ae = AE(ae_title="TEST")
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = 5
    ae.add_requested_context(VERIFICATION)
    association = ae.associate("127.0.0.1", port, ae_title="YUNYING")
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return bool(status.Status == 0x0000)


def test_an_empty_folder_becomes_a_healthy_server(server: Running) -> None:
    health = server.health()
    assert health["status"] == "ok", health
    assert {
        part for part, found in health.items() if part != "status" and found["status"] == "ok"
    } == {
        "database",
        "storage",
        "gateway",
        "worker",
    }
    assert echo(server.dicom_port)
    assert b"yunying_http_requests_total" in server.get("/metrics")


def test_each_role_is_a_fresh_process_of_its_own(server: Running) -> None:
    pids = [*server.pids("gateway"), *server.pids("web"), *server.pids("worker")]
    assert len(set(pids)) == 3
    for pid in pids:
        assert b"server.process" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_check_finds_everything_well(server: Running) -> None:
    said = yunying("check", "--data", str(server.data))
    assert "answers an echo as YUNYING" in said
    assert "FAILED" not in said


@pytest.mark.parametrize("role", ["gateway", "web", "worker"])
def test_a_killed_process_is_logged_and_started_again(server: Running, role: str) -> None:
    (pid,) = server.pids(role)
    others = {name: server.pids(name) for name in ("gateway", "web", "worker") if name != role}
    ports = server.http_port, server.dicom_port
    os.kill(pid, signal.SIGKILL)
    until(lambda: bool(set(server.pids(role)) - {pid}) and gone(pid), f"{role} is back")
    until(lambda: "process.restarted" in server.log(), "the restart is logged")
    until(lambda: server.health()["status"] == "ok", "all is well again")
    assert {name: server.pids(name) for name in others} == others
    assert (server.http_port, server.dicom_port) == ports
    assert echo(ports[1])


def test_a_second_server_on_the_same_folder_is_refused(server: Running) -> None:
    said = fails("serve", "--data", str(server.data))
    assert "Another yunying serve" in said and str(server.process.pid) in said


def test_nodes_are_managed_while_it_runs(server: Running) -> None:
    data = ("--data", str(server.data))
    assert "No node" in yunying("ae", "list", *data)
    yunying("ae", "add", "CT_KAILI", "10.1.2.3", "104", "--charset", "GB18030", *data)
    assert "10.1.2.3:104" in yunying("ae", "list", *data)
    assert "registered already" in fails("ae", "add", "CT_KAILI", "h", "1", *data)
    yunying("ae", "remove", "CT_KAILI", *data)
    said = fails("ae", "remove", "CT_KAILI", *data)
    assert "is not registered" in said


def test_studies_are_decided_about_while_it_runs(server: Running) -> None:
    data = ("--data", str(server.data), "--reason", "why")
    made = make(61, 1, 1)
    folder = server.data.parent / "decided"
    folder.mkdir()
    identity = made.identity
    head = file_head(
        identity.sop_class_uid, identity.sop_instance_uid, identity.transfer_syntax_uid
    )
    (folder / "one.dcm").write_bytes(head + made.data)
    yunying("import", str(folder), *data[:2])
    study = uid(61)
    assert "Decided" in yunying("study", "correct", study, "PatientName=Li^Wei=李^伟", *data)
    page = server.get(f"/studies/{study}").decode()
    assert "李伟" in page
    yunying("study", "hold", study, *data)
    assert "[study.held]" in fails("study", "delete", study, *data)
    yunying("study", "release", study, *data)
    assert "[decision.code]" in fails("study", "reject", study, "--code", "1", *data)
    yunying("study", "reject", study, "--code", "113001", *data)
    assert "[decision.level]" in fails("study", "choose", study, *data)
    said = yunying("study", "show", study, *data[:2])
    for words in ("rejected (113001): why", "corrected: 00100010", "hold: why", "release: why"):
        assert words in said
    yunying("study", "restore", study, *data)
    assert "[merge.same]" in fails("patient", "merge", "P00061", "P00061", *data)
    assert "1 instances deleted" in yunying("study", "delete", study, *data)
    assert "deleted" in yunying("study", "show", study, *data[:2])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with serve(tmp_path) as server:
        pids = [pid for role in ("gateway", "web", "worker") for pid in server.pids(role)]
        began = time.monotonic()
        assert server.end(number) == 0
        assert time.monotonic() - began < 10
        assert all(gone(pid) for pid in pids)
        assert "Stopped." in server.log() and "Traceback" not in server.log()
        assert not server.pids("gateway")


def test_no_process_outlives_its_killed_supervisor(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        pids = [pid for role in ("gateway", "web", "worker") for pid in server.pids(role)]
        server.process.kill()
        server.process.wait()
        until(lambda: all(gone(pid) for pid in pids), "all ended")


def test_a_taken_port_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        addresses = ("--http", "127.0.0.1:0", "--dicom", bind)
        said = fails("serve", "--data", str(tmp_path / "d"), *addresses)
    assert "The gateway process cannot start" in said
    assert "in use" in said


def test_addresses_beyond_loopback_are_refused(tmp_path: Path) -> None:
    for option in ("--http", "--dicom"):
        said = fails("serve", "--data", str(tmp_path), option, "0.0.0.0:0")
        assert "other machines can reach" in said, said


def test_a_wrong_setting_is_said_in_one_sentence(tmp_path: Path) -> None:
    config = tmp_path / "y.toml"
    config.write_text("[http]\nbimd = '127.0.0.1:1'\n")
    said = fails("serve", "--config", str(config))
    assert "There is no setting http.bimd" in said


def test_one_role_alone_can_run(tmp_path: Path) -> None:
    with serve(tmp_path, "--role", "gateway") as server:
        assert echo(server.dicom_port)
        assert not server.pids("web") and not server.pids("worker")


def test_check_before_the_first_start_says_what_will_happen(tmp_path: Path) -> None:
    said = yunying(
        "check", "--data", str(tmp_path / "none"), YUNYING_HTTP_BIND="127.0.0.1:0",
        YUNYING_DICOM_BIND="127.0.0.1:0",
    )  # fmt: skip
    assert "serve makes it" in said
    assert not (tmp_path / "none").exists()


def test_help_is_quick_and_names_every_command() -> None:
    said = yunying("--help")
    for command in ("serve", "import", "check", "ae"):
        assert command in said
