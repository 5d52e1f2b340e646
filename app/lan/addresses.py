"""Where other devices on the same network find this computer."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

import ifaddr

#: Addresses that nothing beyond the clinic's own network can have: no router of the internet passes
#: them on (RFC 6890; private use RFC 1918, shared RFC 6598, link-local RFC 3927, loopback RFC 1122,
#: documentation RFC 5737). The door listens to these alone, and vouches for no others.
LOCAL_NETWORKS = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
    )
)
_LINK_LOCAL = LOCAL_NETWORKS[4]
#: How programs for virtual machines, containers and tunnels name their adapters.
_VIRTUAL = re.compile(
    r"docker|br-|veth|virbr|vmnet|vbox|virtual|hyper-v|wsl|tun|tap|tailscale", re.I
)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Address:
    """An IPv4 address of this computer, and the network adapter that has it."""

    ip: str
    adapter: str

    def link(self, port: int) -> str:
        """What a browser on another device opens."""
        return f"https://{self.ip}:{port}"


def current() -> list[Address]:
    """The addresses at which devices nearby may find this computer, the likeliest first."""
    found = [
        Address(ip.ip, adapter.nice_name)
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
        if isinstance(ip.ip, str) and is_local(ip.ip) and not _is_loopback(ip.ip)
    ]
    first = _towards_the_router()
    return sorted(found, key=lambda address: (*_unlikely(address), address.ip != first))


def is_local(ip: str) -> bool:
    """Whether an address lies in the clinic's own network, or on this computer itself."""
    try:
        address = ipaddress.IPv4Address(ip)
    except ValueError:
        return False
    return any(address in network for network in LOCAL_NETWORKS)


def names() -> list[str]:
    """What this computer calls itself on the network; empty where that is no name of a host."""
    label = socket.gethostname().partition(".")[0].lower()
    return [label, f"{label}.local"] if _LABEL.fullmatch(label) else []


def _unlikely(address: Address) -> tuple[bool, bool]:
    unconfigured = ipaddress.IPv4Address(address.ip) in _LINK_LOCAL
    return unconfigured, bool(_VIRTUAL.search(address.adapter))


def _towards_the_router() -> str:
    """The address that packets for elsewhere would leave from. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return ""


def _is_loopback(ip: str) -> bool:
    return ipaddress.IPv4Address(ip).is_loopback
