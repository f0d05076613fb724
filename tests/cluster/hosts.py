"""Hosts in network namespaces: each with an address and a cable of its own that can be pulled."""

import os
import shutil
import subprocess
from types import TracebackType
from typing import Self

from tests.fault_log import fault


def why_not() -> str:
    """Say why there can be no namespaces here, empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces want root"
    if shutil.which("ip") is None:
        return "no ip; apt-get install iproute2"
    name = f"dk{os.getpid()}t"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"ip netns add: {tried.stderr.strip()}"
    _ip("netns", "delete", name)
    return ""


def why_no_loss() -> str:
    """Say why hosts cannot lose packets here, empty if they can."""
    return why_not() or ("" if shutil.which("nft") else "no nft; apt-get install nftables")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Hosts:
    """Context manager: so many hosts on one bridge, which this host is on, too.

    Parameters
    ----------
    count : int
    """

    def __init__(self, count: int) -> None:
        self._id = os.getpid() % 10_000
        self._net = f"10.213.{self._id % 250}"
        self._count = count
        self._bridge = f"dk{self._id}b"

    def __enter__(self) -> Self:
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("address", "add", f"{self._net}.1/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for i in range(self._count):
                name, cable = self._name(i), self._cable(i)
                _ip("netns", "add", name)
                _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
                _ip("link", "set", cable, "master", self._bridge, "up")
                _ip("-n", name, "address", "add", f"{self.address(i)}/24", "dev", "eth0")
                _ip("-n", name, "link", "set", "eth0", "up")
                _ip("-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for i in range(self._count):
            # A namespace goes later, with its end of the cable; the next hosts of this process want the names at once.
            subprocess.run(["ip", "link", "delete", self._cable(i)], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "delete", self._name(i)], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", self._bridge], check=False, capture_output=True)

    def _name(self, host: int) -> str:
        return f"dk{self._id}h{host}"

    def _cable(self, host: int) -> str:
        return f"dk{self._id}v{host}"

    def address(self, host: int) -> str:
        """Return the address of a host."""
        return f"{self._net}.{host + 2}"

    def on(self, host: int) -> list[str]:
        """Return what stands before a command to run it on a host."""
        return ["ip", "netns", "exec", self._name(host)]

    def pull(self, host: int) -> None:
        """Pull the cable of a host: nothing comes through, and nobody is told."""
        _ip("link", "set", self._cable(host), "down")
        fault("pulled cable", "of a host", "host")

    def plug(self, host: int) -> None:
        """Plug the cable in again."""
        _ip("link", "set", self._cable(host), "up")

    def lose(self, host: int, percent: int) -> None:
        """Let so many of a hundred packets that come to a host be lost, by chance."""
        rules = f"""
            add table inet loss
            delete table inet loss
            add table inet loss
            add chain inet loss incoming {{ type filter hook input priority 0; }}
            add rule inet loss incoming iifname "eth0" numgen random mod 100 < {percent} counter drop
        """
        subprocess.run([*self.on(host), "nft", "-f", "-"], input=rules.encode(), check=True, capture_output=True)
        fault("lost packets", f"{percent} of 100 that come to a host", "host")

    def lost(self, host: int) -> int:
        """Return how many packets were lost on their way to a host."""
        listed = subprocess.run(
            [*self.on(host), "nft", "list", "table", "inet", "loss"], check=True, capture_output=True
        )
        return int(listed.stdout.decode().partition("packets ")[2].split()[0])
