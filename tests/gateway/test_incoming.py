"""Properties of the parser: it never invents, loses or keeps bytes, wherever the stream is cut."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dimse import command as dimse
from gateway.upper_layer.buffers import BufferPool
from gateway.upper_layer.incoming import Disposal, Incoming
from gateway.upper_layer.pdu import (
    ASSOCIATE_AC,
    ASSOCIATE_RQ,
    Associate,
    ContextResult,
    PduError,
    ProposedContext,
    Role,
    UserInformation,
    decode_associate,
    encode_associate,
)
from tests.gateway.peer import pdu, pdus, pdv

SIZE = 4096  # of a buffer, so that small objects overflow it too


class Recorder:
    """A sink that copies what it is told."""

    def __init__(self, disposal: Disposal = Disposal.COLLECT) -> None:
        self.disposal = disposal
        self.messages: list[tuple[bytes, bytes]] = []
        self.controls: list[tuple[int, bytes]] = []
        self._command = b""
        self._data = bytearray()

    def control(self, kind: int, body: bytes) -> None:
        self.controls.append((kind, body))

    def p_data(self) -> bool:
        return True

    def command(self, context_id: int, command: bytes) -> Disposal:
        self._command = command
        if not dimse.has_data_set(dimse.parse(command)):
            self.messages.append((command, b""))
            return Disposal.NO_DATA
        return self.disposal

    def spill(self, parts: list[memoryview]) -> None:
        self._data += b"".join(parts)

    def data(self, parts: list[memoryview]) -> None:
        self.messages.append((self._command, bytes(self._data) + b"".join(parts)))
        self._data.clear()


def feed(incoming: Incoming, stream: bytes, cuts: list[int]) -> None:
    """Give the stream in pieces of the sizes in ``cuts`` (again and again), as a socket would."""
    at, turn = 0, 0
    while at < len(stream):
        window = incoming.window()
        size = min(len(window), cuts[turn % len(cuts)], len(stream) - at)
        window[:size] = stream[at : at + size]
        incoming.received(size)
        at += size
        turn += 1


cut_sizes = st.lists(st.integers(1, 3000), min_size=1, max_size=8)
data_sets = st.lists(st.binary(max_size=9000), max_size=6)


@given(data_sets=data_sets, cuts=cut_sizes, fragment=st.integers(1, 3000))
@settings(deadline=None, max_examples=150)
def test_messages_come_out_as_they_went_in(
    data_sets: list[bytes], cuts: list[int], fragment: int
) -> None:
    sent = [(dimse.store_request(n + 1, "1.2", "1.3"), data) for n, data in enumerate(data_sets)]
    stream = b"".join(pdus(1, command, data, fragment) for command, data in sent)
    sink, pool = Recorder(), BufferPool(SIZE)
    incoming = Incoming(pool, sink, 65536)
    feed(incoming, stream, cuts)
    assert sink.messages == sent
    assert pool.taken == 0


@given(data_sets=data_sets, cuts=cut_sizes)
@settings(deadline=None, max_examples=50)
def test_unwanted_data_sets_are_passed_over(data_sets: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pdus(1, dimse.store_request(1, "1.2", "1.3"), one, 900) for one in data_sets)
    stream += pdus(1, dimse.echo_request(2), None)
    sink, pool = Recorder(Disposal.DISCARD), BufferPool(SIZE)
    feed(Incoming(pool, sink, 65536), stream, cuts)
    assert [data for _, data in sink.messages] == [b""] * (len(data_sets) + 1)
    assert pool.taken == 0


@given(stream=st.binary(max_size=20_000), cuts=cut_sizes)
@settings(deadline=None, max_examples=200)
def test_random_bytes_raise_only_what_is_foreseen(stream: bytes, cuts: list[int]) -> None:
    sink, pool = Recorder(), BufferPool(SIZE)
    incoming = Incoming(pool, sink, 65536)
    with suppress(PduError, dimse.CommandError):
        feed(incoming, stream, cuts)
    incoming.close()
    assert pool.taken == 0


@given(
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=20),
    cuts=cut_sizes,
)
@settings(deadline=None, max_examples=200)
def test_damaged_streams_raise_only_what_is_foreseen(
    flips: list[tuple[int, int]], cuts: list[int]
) -> None:
    stream = bytearray(
        encode_associate(Associate("A", "B", (ProposedContext(1, "1.2", ("1.3",)),)), ASSOCIATE_RQ)
        + pdus(1, dimse.store_request(1, "1.2", "1.3"), bytes(5000), 700)
        + pdu(pdv(1, 3, dimse.echo_request(1)))
    )
    for at, value in flips:
        stream[at % len(stream)] = value
    sink, pool = Recorder(), BufferPool(SIZE)
    incoming = Incoming(pool, sink, 65536)
    with suppress(PduError, dimse.CommandError):
        feed(incoming, bytes(stream), cuts)
    for kind, body in sink.controls:
        if kind in (ASSOCIATE_RQ, ASSOCIATE_AC):
            with suppress(PduError):
                decode_associate(body, kind)
    incoming.close()
    assert pool.taken == 0


def test_held_request_is_asked_again() -> None:
    sink, pool = Recorder(Disposal.HOLD), BufferPool(SIZE)
    incoming = Incoming(pool, sink, 65536)
    first = dimse.store_request(1, "1.2", "1.3")
    stream = pdus(1, first, b"abcd" * 500) + pdus(1, dimse.echo_request(2), None)
    feed(incoming, stream, [5000])
    assert sink.messages == []
    assert pool.taken == 1
    assert not incoming.resume()
    sink.disposal = Disposal.COLLECT
    assert incoming.resume()
    assert [command for command, _ in sink.messages] == [first, dimse.echo_request(2)]
    assert pool.taken == 0


titles = st.text("ABC_xyz 09", min_size=1, max_size=16).map(str.strip).filter(bool)
uids = st.lists(st.integers(0, 10**8), min_size=2, max_size=6).map(
    lambda parts: ".".join(map(str, parts))
)
roles = st.builds(Role, uids, st.booleans(), st.booleans())
users = st.builds(
    UserInformation,
    st.integers(0, 2**32 - 1),
    uids,
    titles,
    st.none() | st.tuples(st.integers(0, 65535), st.integers(0, 65535)),
    st.lists(roles, max_size=5).map(tuple),
    st.lists(st.tuples(uids, st.binary(max_size=20)), max_size=3).map(tuple),
)


@given(
    titles,
    titles,
    st.lists(
        st.tuples(uids, st.lists(uids, min_size=1, max_size=4).map(tuple)), min_size=1, max_size=12
    ),
    users,
)
@settings(deadline=None, max_examples=100)
def test_associate_request_survives_its_encoding(
    called: str, calling: str, contexts: list[tuple[str, tuple[str, ...]]], user: UserInformation
) -> None:
    proposed = tuple(
        ProposedContext(2 * n + 1, abstract, transfer)
        for n, (abstract, transfer) in enumerate(contexts)
    )
    request = Associate(called, calling, proposed, user=user)
    assert decode_associate(encode_associate(request, ASSOCIATE_RQ)[6:], ASSOCIATE_RQ) == request


@given(st.lists(uids, min_size=1, max_size=20), users)
@settings(deadline=None, max_examples=50)
def test_associate_accept_survives_its_encoding(chosen: list[str], user: UserInformation) -> None:
    results = tuple(ContextResult(2 * n + 1, n % 5, uid) for n, uid in enumerate(chosen))
    answer = Associate("A", "B", results=results, user=user)
    assert decode_associate(encode_associate(answer, ASSOCIATE_AC)[6:], ASSOCIATE_AC) == answer
