"""What a replica keeps in a volume is there for the next one of its service, and for nobody else."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from site_runner import SERVICE, Site, site_in

from kasbah.agent import confine
from kasbah.agent.runner import claims, volumes
from kasbah.agent.runner.claims import Claim
from kasbah.domain.ids import ServiceId
from kasbah.domain.revision import Volume

pytestmark = pytest.mark.real

DATA = Volume(name="data", path="data", size=2**20)
DEEP = Volume(name="up-loads", path="var/uploads", size=2**20)
OTHER = ServiceId("sv-b")

WRITES = """
import os, sqlite3
with sqlite3.connect('data/app.db') as db:
    db.execute('create table if not exists visits (n integer)')
    db.execute('insert into visits values (1)')
    print(db.execute('select count(*) from visits').fetchone()[0])
"""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with site_in(tmp_path) as site:
        yield site


async def test_what_is_written_is_there_for_the_next_replica(site: Site) -> None:
    assert await site.run("rp-a", WRITES, volumes=(DATA,)) == ["1"]
    assert await site.run("rp-b", WRITES, volumes=(DATA,)) == ["2"]
    await site.kill_runner()
    assert await site.run("rp-c", WRITES, volumes=(DATA,)) == ["3"]


async def test_a_killed_replica_leaves_what_it_had_written(site: Site) -> None:
    await site.python("rp-a", "open('data/x', 'w').write('kept'); print('up'); import time; time.sleep(1000)",
                      volumes=(DATA,))  # fmt: skip
    await site.said("rp-a", "up")
    running = await site.the("rp-a")
    assert running.pid is not None
    os.kill(running.pid, 9)
    await site.ended("rp-a")
    assert await site.run("rp-b", "print(open('data/x').read())", volumes=(DATA,)) == ["kept"]


async def test_it_lies_where_the_file_says_and_the_environment_names_it(site: Site) -> None:
    (site.source / "data").mkdir()
    (site.source / "data" / "shipped").write_text("of the source")
    (site.source / "var").mkdir()
    code = (
        "import os; print(os.listdir('data'), os.environ['KASBAH_VOLUME_DATA'] == os.path.abspath('data'),"
        "os.path.samefile(os.environ['KASBAH_VOLUME_UP_LOADS'], 'var/uploads'))"
    )
    assert await site.run("rp-a", code, volumes=(DATA, DEEP)) == ["[] True True"]
    assert (site.source / "data" / "shipped").read_text() == "of the source"


async def test_other_services_see_nothing_of_it(site: Site) -> None:
    await site.run("rp-a", "import os; os.chmod('data', 0o777); open('data/x', 'w').write('mine')", volumes=(DATA,))
    kept = site.paths.volumes / SERVICE / "data" / "x"
    assert kept.read_text() == "mine"
    tries = f"""
import os
os.symlink({str(kept.parent)!r}, 'data/there')
for what in (lambda: open({str(kept)!r}).read(), lambda: open('data/there/x').read(),
             lambda: os.link({str(kept)!r}, 'data/linked'), lambda: open({str(kept)!r}, 'w')):
    try:
        what()
        print('DONE')
    except OSError:
        print('refused')
"""
    assert await site.run("rp-b", tries, service=OTHER, volumes=(DATA,)) == ["refused"] * 4
    assert await site.run("rp-c", "import os; print(os.listdir('data'))", volumes=(DATA,)) == ["['x']"]


async def test_where_replicas_have_mounts_it_cannot_be_taken_away(site: Site) -> None:
    if confine.MOUNTS not in (await site.driver.isolation()).mechanisms:
        pytest.skip("replicas have no mounts of their own here")
    code = "import os\ntry:\n os.rename('data', 'away')\nexcept OSError:\n print('refused')"
    assert await site.run("rp-a", code, volumes=(DATA,)) == ["refused"]


async def test_a_link_in_the_source_leads_no_volume_out_of_it(site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (site.source / "var").symlink_to(outside)
    with pytest.raises(Exception, match="File exists"):
        await site.run("rp-a", "print(1)", volumes=(DEEP,))
    assert not list(outside.iterdir())


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="only root gives replicas users of their own")
async def test_a_service_with_volumes_keeps_its_user(site: Site) -> None:
    who = "import os; print(os.getuid())"
    first = await site.run("rp-a", who, volumes=(DATA,))
    assert await site.run("rp-b", who, volumes=(DATA,)) == first
    assert await site.run("rp-c", who, service=OTHER, volumes=(DATA,)) != first
    assert await site.run("rp-d", who) != first
    await site.kill_runner()
    assert await site.run("rp-e", who, volumes=(DATA,)) == first


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="only root gives replicas users of their own")
def test_users_that_changed_get_all_of_it_and_nothing_beyond(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "FOLDER", tmp_path / "claims")
    home, folder, outside = tmp_path / "home", tmp_path / "volumes", tmp_path / "outside"
    for path in (home, folder, outside):
        path.mkdir()
    before = claims.claim(home, 7)
    kept = volumes.Volumes(folder, before)
    owner = kept.owner("sv-a")
    assert owner is not None
    kept.make("sv-a", ["data"])
    data = folder / "sv-a" / "data"
    (data / "out").symlink_to(outside)
    (data / "in").mkdir()
    (data / "in" / "file").touch()
    assert kept.owner("sv-a") == owner
    after = Claim(block=before.block + 1, file=before.file)
    changed = volumes.Volumes(folder, after).owner("sv-a")
    assert changed is not None
    assert after.slot(changed) is not None
    owners = {path: path.lstat().st_uid for path in (folder / "sv-a").rglob("*")}
    assert set(owners.values()) == {changed}
    assert len(owners) == 4
    assert outside.stat().st_uid == 0
    assert changed not in {after.user(after.take()) for _ in range(claims.SLOTS - 4)}
