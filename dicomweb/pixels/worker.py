"""A codec worker: a child process that decodes or renders frames handed to it on standard input.

Started by `dicomweb.pixels.pool` as ``python -m dicomweb.pixels.worker MEMORY_BYTES``. What a
hostile codestream may do is bounded: address space, no core, no file growth; the parent kills a
worker that takes too long and starts another.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
import warnings
from pathlib import Path
from typing import Any, BinaryIO

from dataset.transcode import convert
from dicomweb.pixels import codecs
from dicomweb.pixels.frame import FrameSpec
from dicomweb.pixels.native import decode_native
from dicomweb.pixels.picture import draw
from dicomweb.pixels.picture_spec import PictureSpec
from dicomweb.pixels.wire import LENGTHS, MAX_HEAD_BYTES, pack, unpack_head
from kernel.errors import AppError


def main() -> None:
    """Serve jobs until standard input ends."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    limit(int(sys.argv[1]))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while True:
        lengths = _read(source, LENGTHS.size)
        if lengths is None:
            return
        head_bytes, payload_bytes = LENGTHS.unpack(lengths)
        if head_bytes > MAX_HEAD_BYTES:
            return
        text = _read(source, head_bytes)
        if text is None:
            return
        answer, data = _serve(unpack_head(text), source, payload_bytes)
        sink.write(pack(answer, len(data)))
        sink.write(data)
        sink.flush()


def limit(memory_bytes: int) -> None:
    """Let this process map at most `memory_bytes` beyond what it has mapped now."""
    sys.dont_write_bytecode = True  # nothing may be written from here on
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    ceiling = pages * os.sysconf("SC_PAGE_SIZE") + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _serve(
    job: dict[str, Any], source: BinaryIO, payload_bytes: int
) -> tuple[dict[str, Any], bytes]:
    try:
        payload = _read(source, payload_bytes)
        if payload is None:
            return {"error": "pixels.corrupt", "message": "The job is incomplete."}, b""
        return run(job, payload)
    except AppError as error:
        return {"error": error.code, "message": error.message, "fields": error.fields}, b""
    except MemoryError:
        message = "Decoding this frame needs more memory than allowed."
        return {"error": "pixels.memory", "message": message}, b""
    except Exception as error:  # noqa: BLE001 - the edge of the process; the next job is another's
        message = "The compressed pixel data cannot be decoded: {detail}"
        fields = {"detail": type(error).__name__}
        return {"error": "pixels.corrupt", "message": message, "fields": fields}, b""


def run(job: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Do one job: `decode` answers little endian samples, `draw` an encoded picture, `convert` a
    data set in another transfer syntax.

    Raises:
        AppError: the reason why it cannot be done.
    """
    if job["do"] == "convert":
        converted = convert(payload, job["source"], job["target"], job["limit_bytes"])
        return {}, converted
    spec = FrameSpec(**job["frame"])
    if spec.native:
        array, photometric = decode_native(payload, spec)
    else:
        array, photometric = codecs.decode(payload, spec)
    if job["do"] == "draw":
        picture = PictureSpec.from_json(job["picture"])
        return {"photometric_interpretation": photometric}, draw(array, photometric, picture)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    head = {
        "photometric_interpretation": photometric,
        "bits_allocated": array.dtype.itemsize * 8,
        "shape": list(array.shape),
    }
    return head, little


def _read(source: BinaryIO, count: int) -> bytes | None:
    data = source.read(count)
    return data if len(data) == count else None


if __name__ == "__main__":
    main()
