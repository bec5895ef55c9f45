"""A network namespace per replica: its own loopback and ports, one address by which it is asked, and rules about the
rest.

    gateway, agent (root) ──> veth ksbBLOCK-SLOT ══ eth0 (the replica's address) ──> 127.0.0.1:PORT inside
                                       │
                                       └──> the outside, as its `egress` says; other replicas and this machine never

Inside, what comes from the gateway's side is sent on to 127.0.0.1: apps listen there, or everywhere, and both work.
This and the rules are packet rewriting and filtering by nftables. Rules go by device, so a replica cannot lie about
who it is. There is one table for the inside of each namespace and one on the machine for each installation.

Builds have the machine's network. Those of what may not call anything run as a user of their own, who reaches the
package indexes and nothing else.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kasbah.agent.confine import programs
from kasbah.agent.confine.kernel import StepFailed, call

NEW_NETWORK = 0x4000_0000
OWN = "/proc/self/ns/net"
PREFIX = "ksb"
SIZE = 4096
"""Addresses of a block; the last two are the machine's own."""

RANGES = ((0x64400000, 1024), (0xC6120000, 32))
"""100.64.0.0/10, which no site on the internet has, and 198.18.0.0/15, for measurements; each with its blocks."""

NEVER = "169.254.0.0/16, 127.0.0.0/8, 224.0.0.0/4, 255.255.255.255"
"""Where no replica's packets go: link-local addresses (cloud metadata among them) and what is no single machine."""

SYSCTL = Path("/proc/sys/net")
FORWARDING = SYSCTL / "ipv4/ip_forward"
GUARD = "kasbah_forwarding"
"""The table that keeps a machine from forwarding for others where it began to only because of us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Street:
    """The addresses and names of one installation's replicas: `base` is the first address of its block."""

    block: int
    base: int
    table: str

    @property
    def near_side(self) -> str:
        """The machine's side of every veth pair: what asks a replica asks from here, and nothing else does."""
        return _dotted(self.base + SIZE - 1)

    @property
    def gateway(self) -> str:
        """The address at which replicas may call this machine, where they may."""
        return _dotted(self.base + SIZE - 2)

    @property
    def devices(self) -> str:
        """The machine's side of all veth pairs, as nft has it."""
        return f'"{PREFIX}{self.block}-*"'

    @property
    def network(self) -> str:
        return f"{_dotted(self.base)}/20"

    def address(self, slot: int) -> str:
        """The address of a replica."""
        return _dotted(self.base + slot)

    def device(self, slot: int) -> str:
        """The machine's side of a replica's veth pair."""
        return f"{PREFIX}{self.block}-{slot}"


GATEWAY = "gateway"
"""In place of a network: the gateway, where replicas reach it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Where a replica may call: a network (`1.2.3.4/32` for one address), on one port or on any, or the GATEWAY."""

    network: str
    port: int | None = None


Rules = tuple[Rule, ...] | None
"""None: anywhere outside. Empty: nowhere."""


def street(block: int, table: str) -> Street:
    """The street of a block, in the first range that the machine does not use already. Raises StepFailed."""
    routes = _routes(block)
    for start, blocks in RANGES:
        found = Street(block=block, base=start + block % blocks * SIZE, table=table)
        taken = (_span(route) for route in routes if route != found.network)  # that is ours, of an earlier runner
        if not any(first < found.base + SIZE and found.base <= last for first, last in taken):
            return found
    raise StepFailed(98, "the addresses they would have are routed elsewhere already", "own networks")


def _routes(block: int) -> list[str]:
    """The destinations that this machine has routes to, those of the block's own replicas left out."""
    lines = programs.told(programs.IP, "-4", "-o", "route", "show", "table", "all").splitlines()
    kinds = {"local", "broadcast", "unreachable", "blackhole", "prohibit", "multicast", "throw"}
    found = []
    for line in lines:
        words = line.split()
        destination = words[1] if words[0] in kinds else words[0]
        if destination != "default" and f"dev {PREFIX}{block}-" not in line:
            found.append(destination)
    return found


def _span(network: str) -> tuple[int, int]:
    address, _, bits = network.partition("/")
    first = struct.unpack("!I", socket.inet_aton(address))[0]
    return first, first + (1 << (32 - int(bits or 32))) - 1


def _dotted(number: int) -> str:
    return socket.inet_ntoa(struct.pack("!I", number))


# --- one namespace ----------------------------------------------------------------------------------------------------


def make(street: Street, slots: Iterable[int], owner: int) -> dict[int, int]:
    """New namespaces, by slot, as open files; closed, and entered by nobody, they are gone. `owner` is a process in
    the machine's own network. Raises StepFailed or OSError."""
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    made = {}
    try:
        for slot in slots:
            call("unshare", NEW_NETWORK)
            _furnish(street, slot, owner)
            made[slot] = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
            call("setns", home, NEW_NETWORK)
    finally:
        call("setns", home, NEW_NETWORK)
        os.close(home)
    programs.ip("".join(_outside(street, slot) for slot in made))
    for slot in made:
        # The gateway listens on this machine's loopback, where nothing from elsewhere would be sent on to.
        (SYSCTL / f"ipv4/conf/{street.device(slot)}/route_localnet").write_text("1")
    programs.nft("".join(_admit(street, slot) for slot in made))
    return made


def enter(namespace: int) -> None:
    """Enter a namespace that was made."""
    call("setns", namespace, NEW_NETWORK)


def _furnish(street: Street, slot: int, owner: int) -> None:
    """Inside: loopback, one address, one way out, and what comes in from the gateway goes on to loopback."""
    (SYSCTL / "ipv4/conf/default/route_localnet").write_text("1")
    (SYSCTL / "ipv4/ip_unprivileged_port_start").write_text("0")  # all its ports are its own
    with suppress(OSError):  # a machine without IPv6
        (SYSCTL / "ipv6/conf/default/disable_ipv6").write_text("1")
    address, gateway = street.address(slot), street.near_side
    programs.ip(
        f"link set lo up\nlink add eth0 type veth peer name {street.device(slot)} netns {owner}\n"
        f"addr add {address}/32 dev eth0\nlink set eth0 up\n"
        f"route add {gateway} dev eth0\nroute add default via {gateway}\n"
    )
    programs.nft(
        "table ip kasbah {\n"
        " chain inwards { type filter hook prerouting priority raw;\n"
        f'  iifname "eth0" ip saddr {gateway} ip daddr {address} meta l4proto tcp ip daddr set 127.0.0.1; }}\n'
        " chain back { type route hook output priority raw;\n"
        f"  ip daddr {gateway} ip saddr 127.0.0.1 meta l4proto tcp ip saddr set {address}; }}\n"
        "}\n"
    )


def _outside(street: Street, slot: int) -> str:
    device = street.device(slot)
    return (
        f"link set {device} addrgenmode none\naddr add {street.near_side}/32 dev {device}\n"
        f"addr add {street.gateway}/32 dev {device}\nlink set {device} up\n"
        f"route add {street.address(slot)} dev {device} src {street.near_side}\n"
    )


# --- the machine ------------------------------------------------------------------------------------------------------


def open_street(
    street: Street, builder: int, residents: Iterable[tuple[int, Rules]] = (), gateway: tuple[str, int] | None = None
) -> None:
    """Bring the machine's rules into force, anew, with what those who live there already may call, and clear what an
    earlier runner left of others. `builder` is the user who reaches nothing but package indexes. Raises StepFailed or
    OSError."""
    living = dict(residents)
    rules = [
        f"add table inet {street.table}\ndelete table inet {street.table}\n{_table(street, builder)}",
        *(_admit(street, slot) for slot in living),
        *(permit(street, slot, None, allowed) for slot, allowed in living.items() if allowed is not None),
        lead_to(street, *gateway) if gateway else "",
    ]
    programs.nft("".join(rules))
    _remove(street, kept={street.device(slot) for slot in living})
    # The address of one that is gone must not lead to the machine's own way out, where somebody else may answer.
    programs.ip(f"route replace unreachable {street.network}\n")
    if FORWARDING.read_text().strip() != "1":
        programs.nft(_guard())
        FORWARDING.write_text("1")


def close_street(street: Street, *, last: bool) -> None:
    """Take away all that was made on the machine; `last`: no other installation has replicas here."""
    _remove(street, kept=set())
    with suppress(StepFailed):
        programs.ip(f"route del unreachable {street.network}\n")
    programs.nft(f"add table inet {street.table}\ndelete table inet {street.table}\n")
    if last and GUARD in programs.told(programs.NFT, "list", "tables"):
        FORWARDING.write_text("0")
        programs.nft(f"delete table inet {GUARD}\n")


def permit(street: Street, slot: int, before: Rules, allowed: tuple[Rule, ...]) -> str:
    """The nft commands that let a resident call these only, all at once; `before` is what it might until now."""
    table, address, chain = street.table, street.address(slot), _chain(slot)
    calls_gateway = any(one.network == GATEWAY for one in allowed)
    lines = (
        f"add chain inet {table} {chain}\nflush chain inet {table} {chain}\n{_lines(table, chain, allowed)}"
        f"add element inet {table} callers {{ {address} }}\n"
        f"{'' if calls_gateway else f'delete element inet {table} callers {{ {address} }}'}\n"
    )
    if before is not None:
        return lines
    return (
        f"{lines}delete element inet {table} from {{ {address} }}\n"
        f"add element inet {table} from {{ {address} : jump {chain} }}\n"
    )


def evict(street: Street, slot: int, before: Rules) -> str:
    """The nft commands after which the address of a resident may call nowhere."""
    table, address = street.table, street.address(slot)
    leave = (
        f"delete element inet {table} from {{ {address} }}\n"
        f"add element inet {table} callers {{ {address} }}\ndelete element inet {table} callers {{ {address} }}\n"
    )
    return leave if before is None else f"{leave}delete chain inet {street.table} {_chain(slot)}\n"


def _admit(street: Street, slot: int) -> str:
    table, address = street.table, street.address(slot)
    return f"add element inet {table} from {{ {address} : accept }}\nadd element inet {table} callers {{ {address} }}\n"


def lead_to(street: Street, host: str, port: int) -> str:
    """The nft commands that lead to the gateway that listens there."""
    table = street.table
    return f"flush map inet {table} gateway\nadd element inet {table} gateway {{ {port} : {host} }}\n"


def supply(street: Street, indexes: Iterable[tuple[str, int]]) -> str:
    """The nft commands after which package indexes are at these addresses and ports, and nowhere else."""
    elements = ", ".join(sorted({f"{address} . {port}" for address, port in indexes}))
    filled = f"add element inet {street.table} indexes {{ {elements} }}\n" if elements else ""
    return f"flush set inet {street.table} indexes\n{filled}"


def _chain(slot: int) -> str:
    return f"egress_{slot}"


def _lines(table: str, chain: str, allowed: tuple[Rule, ...]) -> str:
    return "".join(
        f"add rule inet {table} {chain} ip daddr {one.network}"
        f"{'' if one.port is None else f' meta l4proto {{ tcp, udp }} th dport {one.port}'} accept\n"
        for one in allowed
        if one.network != GATEWAY
    )


def _table(street: Street, builder: int) -> str:
    ours, us = street.devices, os.getuid()
    refuse = "meta l4proto tcp reject with tcp reset"
    return f"""
table inet {street.table} {{
 map from {{ type ipv4_addr : verdict; }}
 set callers {{ type ipv4_addr; }}
 map gateway {{ type inet_service : ipv4_addr; }}
 set indexes {{ type ipv4_addr . inet_service; }}
 chain to_the_gateway {{ type nat hook prerouting priority dstnat;
  iifname {ours} ip daddr {street.gateway} dnat ip to tcp dport map @gateway
 }}
 chain to_replicas {{ type filter hook output priority filter;
  oifname {ours} meta skuid != {us} {refuse}
  oifname {ours} meta skuid != {us} drop
 }}
 chain from_this_machine {{ type filter hook output priority filter;
  meta skuid {builder} jump of_closed_builds
 }}
 chain of_closed_builds {{
  ip daddr . tcp dport @indexes accept
  {refuse}
  reject with icmpx admin-prohibited
 }}
 chain to_this_machine {{ type filter hook input priority filter;
  iifname {ours} ct state established,related accept
  iifname {ours} ct status dnat ip saddr @callers accept
  iifname {ours} {refuse}
  iifname {ours} drop
 }}
 chain through {{ type filter hook forward priority filter;
  iifname {ours} jump outwards
  oifname {ours} ct state established,related accept
  oifname {ours} drop
 }}
 chain outwards {{
  oifname {ours} drop
  meta nfproto != ipv4 drop
  ip daddr {{ {NEVER} }} drop
  ct state established,related accept
  ip saddr vmap @from
  {refuse}
  reject with icmpx admin-prohibited
 }}
 chain as_this_machine {{ type nat hook postrouting priority srcnat;
  ip saddr {street.network} oifname != {ours} masquerade
 }}
}}
"""


def _guard() -> str:
    return (
        f"add table inet {GUARD}\nflush table inet {GUARD}\n"
        f"add chain inet {GUARD} others {{ type filter hook forward priority filter; }}\n"
        f'add rule inet {GUARD} others iifname != "{PREFIX}*" oifname != "{PREFIX}*" drop\n'
    )


def _remove(street: Street, *, kept: set[str]) -> None:
    """Remove devices of ours. The kernel does so itself when a namespace ends, but a moment later."""
    mine = f"{PREFIX}{street.block}-"
    found = [name for _, name in socket.if_nameindex() if name.startswith(mine) and name not in kept]
    for name in found:
        with suppress(StepFailed):
            programs.ip(f"link del {name}\n")
