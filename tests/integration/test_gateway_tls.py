"""TLS with a real Envoy and real certificates: who is served which, what a renewal cuts (nothing), what is refused."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from certificate_files import DAY, Authority, write_pair
from cryptography import x509
from real_gateway import Site, Slow, end, replica, saying
from site_runner import DEADLINE

from kasbah.agent.certificates import Certificates, Pair, Refused
from kasbah.agent.paths import Paths
from kasbah.clock import ManualClock
from kasbah.decide.routing import secured

pytestmark = pytest.mark.real

DRAINING = "listener_manager.total_filter_chains_draining"
HOSTS = ("notes.example.net", "shop.example.org")
ACME = "/.well-known/acme-challenge/token"
HELLO = "\r\n5\r\nhello\r\n0\r\n\r\n"
REFUSED = (ssl.SSLError, ConnectionError)
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TlsSite(Site):
    """A gateway that speaks TLS, with an agent's care for its certificates."""

    def __init__(self, paths: Paths) -> None:
        super().__init__(paths, tls="127.0.0.1:0")
        # What a caller's own TLS makes of dates is not in question here: it reads the machine's clock, as we do.
        self.clock = ManualClock(datetime.now(UTC))  # noqa: TID251
        self.authority = Authority(self.clock.now())
        self.folder = paths.data_dir / "certificates"
        self.folder.mkdir(exist_ok=True)
        self.certificates = self.new_certificates()

    def new_certificates(self) -> Certificates:
        return Certificates(self.folder, self.paths.certificates, self.clock)

    async def renew(self) -> None:
        """What the agent's loop does, and the reconciler after it."""
        await self.certificates.renew(self.controller.certify)
        self.controller.withdraw(self.certificates.hosts)
        tls = self.controller.tls
        hosts = tuple(secured(replace(one, secure_hosts=()), tls) for one in self.wanted.hosts)
        await self.apply(replace(self.wanted, hosts=hosts, tls=tls))

    async def put(self, file: str, *names: str, **how: datetime) -> None:
        self.authority.put(self.folder, file, *names, **how)
        await self.renew()

    @property
    def tls_port(self) -> int:
        assert self.controller.tls is not None
        return self.controller.tls.port

    def context(self, *alpn: str) -> ssl.SSLContext:
        """A caller that trusts the test's authority only."""
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        context.set_alpn_protocols(list(alpn) or ["http/1.1"])
        return context

    async def connect(self, host: str, context: ssl.SSLContext | None = None) -> Stream:
        async with asyncio.timeout(DEADLINE):
            return await asyncio.open_connection(
                "127.0.0.1", self.tls_port, ssl=context or self.context(), server_hostname=host
            )

    async def greeted(self, host: str, serial: int) -> Stream:
        """A connection to a host, once it shows the certificate with this number: a listener announces itself to
        nobody, and Envoy's threads take a certificate in turn."""
        async with asyncio.timeout(DEADLINE):
            while True:
                with suppress(*REFUSED):
                    stream = await self.connect(host)
                    if serial_of(stream) == serial:
                        return stream
                    stream[1].close()
                await asyncio.sleep(0.01)

    def serial(self, file: str) -> int:
        return x509.load_pem_x509_certificate((self.folder / f"{file}.crt").read_bytes()).serial_number


def serial_of(stream: Stream) -> int:
    return x509.load_der_x509_certificate(stream[1].get_extra_info("ssl_object").getpeercert(True)).serial_number


async def ask(stream: Stream, host: str, path: str = "/") -> str:
    """One exchange on a connection that stays; the answer's status line, headers and body."""
    reader, writer = stream
    writer.write(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
    async with asyncio.timeout(DEADLINE):
        head = await reader.readuntil(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in head:
            return (head + (await reader.readuntil(b"0\r\n\r\n"))).decode()
        length = next(int(line[15:]) for line in head.decode().split("\r\n") if line.startswith("content-length"))
        return (head + await reader.readexactly(length)).decode()


@pytest.fixture
async def site(site_paths: Paths) -> AsyncIterator[TlsSite]:
    made = TlsSite(site_paths)
    await made.open()
    yield made
    await made.leave()


async def test_each_host_has_its_certificate_and_what_nobody_has_is_refused(site: TlsSite) -> None:
    async with replica(saying("hello")) as address:
        await site.route(address, hosts=HOSTS)
        await site.put("shop", "shop.example.org")
        await site.put("base", "*.example.net")
        for host, file in zip(HOSTS, ("base", "shop"), strict=True):
            stream = await site.greeted(host, site.serial(file))
            assert (await ask(stream, host)).endswith(HELLO)
            stream[1].close()
        _, writer = await site.connect("shop.example.org", site.context("h2", "http/1.1"))
        spoken = writer.get_extra_info("ssl_object")
        assert (spoken.selected_alpn_protocol(), spoken.version()) == ("h2", "TLSv1.3")
        writer.close()
        for refused in ("other.example.org", "a.shop.example.org"):
            with pytest.raises(REFUSED):
                await site.connect(refused)
        old = site.context()
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises(REFUSED):
            await site.connect("shop.example.org", old)
    assert site.controller.error == ""
    assert site.certificates.notes == ()


async def test_a_renewal_cuts_nothing(site: TlsSite) -> None:
    """A renewed file, a host more and one less: who is connected to another host, or in the middle, stays."""
    slow = Slow()
    async with replica(saying("hello")) as address, replica(slow) as slowly:
        await site.route(address, hosts=("shop.example.org",))
        await site.route(slowly, name="slow", hosts=("slow.example.org",))
        await site.put("both", "shop.example.org", "slow.example.org")
        first = site.serial("both")
        kept = await site.greeted("shop.example.org", first)
        assert "200 OK" in await ask(kept, "shop.example.org")
        streaming = await site.greeted("slow.example.org", first)
        streaming[1].write(b"GET / HTTP/1.1\r\nhost: slow.example.org\r\n\r\n")
        async with asyncio.timeout(DEADLINE):
            await streaming[0].readuntil(b"begun ")

        callers = asyncio.create_task(keeps_connecting(site, "shop.example.org"))
        both = ("shop.example.org", "slow.example.org")
        for names in (both, (*both, "more.example.org"), both):
            await site.put("both", *names)
            serial = site.serial("both")
            for host in names:
                (await site.greeted(host, serial))[1].close()
            await drained(site)
        assert not callers.done(), callers.result()
        callers.cancel()
        assert serial_of(kept) == first
        assert "200 OK" in await ask(kept, "shop.example.org"), "the old connection still serves"
        slow.go.set()
        async with asyncio.timeout(DEADLINE):
            await streaming[0].readuntil(b"done")
        for _, writer in (kept, streaming):
            writer.close()


async def test_what_is_not_sound_is_refused_and_the_last_good_one_goes_on(site: TlsSite) -> None:
    now = site.clock.now()
    async with replica(saying("hello")) as address:
        await site.route(address, hosts=("shop.example.org",))
        await site.put("shop", "shop.example.org")
        good = site.serial("shop")
        (await site.greeted("shop.example.org", good))[1].close()
        chain, key = site.authority.issue("shop.example.org")
        wrong = {
            "expired": site.authority.issue("shop.example.org", not_after=now - DAY),
            "not valid before": site.authority.issue("shop.example.org", not_before=now + DAY),
            "shop.key is not its key": (chain, site.authority.issue("shop.example.org")[1]),
            "shop.crt holds no PEM certificate": (b"-----BEGIN CERT", key),
            "shop.key holds no PEM key": (chain, chain),
        }
        for said, pair in wrong.items():
            write_pair(site.folder, "shop", *pair)
            await site.renew()
            (note,) = site.certificates.notes
            assert "shop.crt is refused" in note
            assert said in note
            stream = await site.connect("shop.example.org")
            assert serial_of(stream) == good
            assert (await ask(stream, "shop.example.org")).endswith(HELLO)
            stream[1].close()

        await restarted(site)
        assert serial_of(await site.connect("shop.example.org")) == good, "a new agent has it from the data folder"
        await site.put("shop", "shop.example.org")
        assert site.certificates.notes == ()
        (await site.greeted("shop.example.org", site.serial("shop")))[1].close()
        for ending in ("crt", "key"):
            (site.folder / f"shop.{ending}").unlink()
        await site.renew()
        await refuses(site, "shop.example.org")


async def drained(site: TlsSite) -> None:
    """Wait until Envoy has closed whatever the last change of a listener made it close."""
    async with asyncio.timeout(DEADLINE):
        while "draining: 0" not in await site.controller.envoy.admin("GET", f"/stats?filter={DRAINING}"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def keeps_connecting(site: TlsSite, host: str) -> str:
    """Connect again and again; why that failed, once it did."""
    while True:
        try:
            (await site.connect(host))[1].close()
        except REFUSED as refused:
            return repr(refused)


async def restarted(site: TlsSite) -> None:
    """As by a new agent: what serves is not known but from files."""
    site.certificates = site.new_certificates()
    await site.renew()


async def refuses(site: TlsSite, host: str) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                (await site.connect(host))[1].close()
            except REFUSED:
                return


async def test_what_envoy_itself_refuses_takes_nothing_away(site: TlsSite) -> None:
    async with replica(saying("hello")) as address:
        await site.route(address, hosts=("shop.example.org",))
        await site.put("shop", "shop.example.org")
        good = site.serial("shop")
        (await site.greeted("shop.example.org", good))[1].close()
        chain, _ = site.authority.issue("shop.example.org")
        _, other = site.authority.issue("shop.example.org")
        with pytest.raises(Refused):
            await site.controller.certify({"shop.example.org": Pair(chain, other)})
        stream = await site.connect("shop.example.org")
        assert serial_of(stream) == good
        assert (await ask(stream, "shop.example.org")).endswith(HELLO)
        stream[1].close()
        await site.route(address, name="later", hosts=("later.localhost",))
        assert site.controller.error == ""
        assert (await site.get(name="later")).text == "hello"


async def test_who_comes_without_tls_is_sent_to_it(site: TlsSite) -> None:
    async with replica(saying("hello")) as address:
        await site.route(address, hosts=HOSTS, public=False)
        await site.put("shop", "shop.example.org")
        await site.route(address, name="open", hosts=("open.localhost",))
        for host in ("shop.example.org", "SHOP.example.org:80"):
            found = await site.get("/a?b=c", name="notes", host=host, x_forwarded_proto="https")
            assert found.status_code == 308, "whatever the caller says of itself, and whatever key it has"
            assert found.headers["location"].lower() == f"https://shop.example.org:{site.tls_port}/a?b=c"
        assert (await site.get(ACME, host="shop.example.org")).status_code == 401, "the service itself answers"
        assert (await site.get(host="notes.example.net")).status_code == 401, (
            "a host without a certificate is as before"
        )
        assert (await site.get(name="open")).text == "hello"
        stream = await site.greeted("shop.example.org", site.serial("shop"))
        assert "401" in await ask(stream, "shop.example.org"), "with TLS, a key is asked for"
        stream[1].close()


async def test_the_next_agent_takes_it_over_without_cutting_anybody(site: TlsSite) -> None:
    async with replica(saying("hello")) as address:
        await site.route(address, hosts=("shop.example.org",))
        await site.put("shop", "shop.example.org")
        kept = await site.greeted("shop.example.org", site.serial("shop"))
        assert "200 OK" in await ask(kept, "shop.example.org")
        await site.leave()

        heir = TlsSite(site.paths)
        heir.authority, heir.wanted, heir.endpoints = site.authority, site.wanted, site.endpoints
        await heir.certificates.renew(heir.controller.certify)
        assert heir.controller.tls == site.controller.tls, "the port is kept"
        await heir.open()
        try:
            assert heir.envoy_pid == site.envoy_pid
            await heir.put("shop", "shop.example.org")
            (await heir.greeted("shop.example.org", heir.serial("shop")))[1].close()
            await drained(heir)
            assert "200 OK" in await ask(kept, "shop.example.org")
            kept[1].close()
        finally:
            await heir.leave()


# --- too many callers -------------------------------------------------------------------------------------------------


async def test_too_many_connections_are_refused_and_the_others_served(site_paths: Paths) -> None:
    site = Site(site_paths, connections=20)
    await site.open()
    try:
        async with replica(saying("hello")) as address:
            await site.route(address)
            assert (await site.get()).text == "hello"
            streams = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(40)]
            answers = await asyncio.gather(*(answered(stream) for stream in streams))
            served = [stream for stream, text in zip(streams, answers, strict=True) if "200 OK" in text]
            assert 10 <= len(served) <= 20
            assert all("200 OK" in text for text in await asyncio.gather(*map(answered, served)))
            for _, writer in streams:
                writer.close()
    finally:
        await site.leave()
        end(site_paths)


async def answered(stream: Stream) -> str:
    """The answer on a connection, empty where it was refused."""
    try:
        return await ask(stream, "notes.localhost")
    except (OSError, EOFError):
        return ""
