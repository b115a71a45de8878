"""What a system takes beside time: CPU and memory of each process, and bytes in its store.

The bytes on a broker are asked of the broker (DescribeLogDirs), because it may run anywhere; those of the embedded log
are its files'. It refuses to know what was done meanwhile: it is asked before and after.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import psutil

from bench.systems import Process

__all__ = ["MIB", "bytes_of_folder", "bytes_of_topics", "memory_of"]

MIB = 1024 * 1024
ANSWER_SECONDS_MAX = 10.0
DESCRIBE_LOG_DIRS = 35
"""The protocol's number of the request; version 1 is the oldest that Kafka 4 knows, and needs no tagged fields."""


def memory_of(process: Process) -> tuple[float, float | None]:
    """Give what a process and its children hold now, and the most that the process itself ever held, in MiB.

    The peak is the kernel's own mark (`VmHWM`), which exists on Linux only.
    """
    root = psutil.Process(process.popen.pid)
    now = sum(member.memory_info().rss for member in [root, *root.children(recursive=True)])
    status = Path(f"/proc/{root.pid}/status")
    if not status.exists():
        return now / MIB, None
    marks = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return now / MIB, int(marks[0].split()[1]) / 1024 if marks else None


def bytes_of_folder(folder: Path) -> int:
    """Count the bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def bytes_of_topics(address: str, prefix: str) -> dict[str, int]:
    """Ask a broker (plaintext) how long the logs of the topics with a prefix are, without their indexes."""
    host, _, port = address.partition(",")[0].rpartition(":")
    client = b"bench"
    # The header of version 1, and then: all topics.
    request = struct.pack(f">hhih{len(client)}si", DESCRIBE_LOG_DIRS, 1, 1, len(client), client, -1)
    with socket.create_connection((host, int(port)), ANSWER_SECONDS_MAX) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", _exactly(connection, 4))
        answer = _Reader(_exactly(connection, length))
    return {topic: size for topic, size in _sizes(answer).items() if topic.startswith(prefix)}


def _sizes(answer: _Reader) -> dict[str, int]:
    sizes: dict[str, int] = {}
    answer.take("ii")  # the correlation id, the throttle time
    for _ in range(answer.take("i")):
        answer.take("h")  # the error of this folder
        answer.text()
        for _ in range(answer.take("i")):
            topic = answer.text()
            for _ in range(answer.take("i")):
                answer.take("i")  # the partition
                sizes[topic] = sizes.get(topic, 0) + answer.take("q")
                answer.take("q?")  # the lag, and whether it is being moved
    return sizes


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, layout: str) -> int:
        """Read fields and give the last."""
        fields = struct.unpack_from(f">{layout}", self._data, self._at)
        self._at += struct.calcsize(f">{layout}")
        return fields[-1]

    def text(self) -> str:
        length = self.take("h")
        self._at += length
        return self._data[self._at - length : self._at].decode()


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ConnectionError("the broker hung up instead of answering")
        data += piece
    return data
