"""Which connections are watched: those whose driver tells the socket."""

import io
import socket
from types import SimpleNamespace

from daskae.silence import watched


def test_a_driver_that_hides_its_socket_behind_a_file_is_left_alone() -> None:
    """As pg8000 does; where the file has ended it has no socket at all."""
    one, other = socket.socketpair()
    with one, other, one.makefile("rb") as reading, one.makefile("wb") as writing:
        plain = SimpleNamespace(_sock=io.BufferedRWPair(reading.raw, writing.raw))
        connection = SimpleNamespace(connection=SimpleNamespace(driver_connection=plain))
        with watched(None, connection, "somewhere", 1.0):
            plain._sock = None
