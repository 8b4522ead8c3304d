"""The listening socket of the server: bound by us or handed to us."""

import errno
import os
import socket
import time
from dataclasses import dataclass
from typing import Final

from hurlicane_mcp.errors import AlreadyServing, HurlicaneError, Invalid

BACKLOG: Final = 1024  #: clients that may wait while no worker runs; the kernel may allow fewer
#: Seconds that a port in use is tried again: the worker of a killed parent is letting go of it.
LEAVING_S: Final = 1.0
FIRST_ACTIVATED_FD: Final = 3  # SD_LISTEN_FDS_START in sd_listen_fds(3)


@dataclass(frozen=True, slots=True)
class Bind:
    """Where to listen: an address or name of this machine, and a port. Port 0 takes a free one."""

    host: str
    port: int


def bound(bind: Bind) -> socket.socket:
    """A new listening socket with SO_REUSEADDR.

    Raises:
        AlreadyServing: the port is in use.
        Invalid: the address is not one of this machine, or may not be used.
    """
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    deadline = time.monotonic() + LEAVING_S
    while True:
        try:
            return socket.create_server((bind.host, bind.port), family=family, backlog=BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise _refusal(bind, error) from error
        time.sleep(0.05)


def _refusal(bind: Bind, error: OSError) -> HurlicaneError:
    if error.errno == errno.EADDRINUSE:
        return AlreadyServing(
            f"Port {bind.port} is in use: stop the other program or choose --port."
        )
    # `create_server` appends the address to the text, but we name it ourselves.
    reason = str(error.strerror).partition(" (while attempting")[0]
    return Invalid(
        f"Cannot listen on {bind.host}, port {bind.port} ({reason}): choose --host or --port."
    )


def activated() -> socket.socket | None:
    """The socket that systemd holds for this very process, or None: sd_listen_fds(3).

    Raises:
        Invalid: there are several, or it is not one to listen on.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()):
        return None
    if count != "1":
        raise Invalid(f"LISTEN_FDS is {count!r}: pass exactly one listening socket.")
    return adopted(FIRST_ACTIVATED_FD)


def adopted(fd: int) -> socket.socket:
    """The TCP socket *fd*, made to listen, and not inherited over exec any more.

    Raises:
        Invalid: *fd* is something else.
    """
    try:
        os.set_inheritable(fd, False)
        listener = socket.socket(fileno=fd)
        listener.listen(BACKLOG)
    except OSError as error:
        raise Invalid(
            f"File descriptor {fd} is no socket to listen on ({error.strerror})."
        ) from error
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        raise Invalid(f"The socket passed as file descriptor {fd} is not a TCP socket.")
    return listener
