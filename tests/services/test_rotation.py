"""A rotation leaves nothing under the old key, loses nothing, and stops no server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import pytest

from certctl.domain.access import system
from certctl.domain.errors import Conflict, Unsafe
from certctl.pki.keyring import Keyring
from certctl.pki.sealing import Place
from certctl.services import rotation, sealing
from certctl.store import key_watch, secrets
from certctl.store.key_watch import KeyWatch
from tests import kit
from tests.conftest import PASSPHRASE, World, open_world
from tests.rotated import NEW, fill, keys_in_use, opened
from tests.store.running import run

ACTOR = system("secrets-rotation")
PLACE = Place("issuers", "sealed_config", "iss-local")
Step = Callable[[], object]


async def rotate(
    world: World,
    now: bytes = PASSPHRASE,
    new: bytes = NEW,
    *,
    keep: Step = lambda: None,
    patience: float = 20,
) -> int:
    passphrases = rotation.Passphrases(now, lambda: new, keep)
    return await rotation.rotate(
        world.platform.db, ACTOR, passphrases, patience=timedelta(seconds=patience)
    )


@asynccontextmanager
async def a_server(world: World, passphrase: bytes = PASSPHRASE) -> AsyncIterator[Keyring]:
    """The keys of a process that runs beside, watched as `boot` has it."""
    ring = await sealing.open_keyring(world.platform.db, passphrase)
    watch = KeyWatch(
        world.conninfo, lambda: ring.current.id, reload=partial(sealing.refresh, ring=ring)
    )
    task = await watch.start()
    yield ring
    task.cancel()
    await asyncio.wait([task])


async def test_everything_is_under_the_new_key_and_the_new_passphrase_alone(world: World) -> None:
    before = await fill(world)
    assert await rotate(world) == len(before)
    assert await opened(world.conninfo, NEW) == before
    (key,) = await kit.rows(world, "SELECT * FROM sealing_keys")
    assert await keys_in_use(world) == {key["id"]}
    assert (key["beside"], key["replaces"]) == (None, None)
    with pytest.raises(Unsafe, match="does not open this database"):
        await opened(world.conninfo, PASSPHRASE)


async def test_a_rotation_can_follow_another(world: World) -> None:
    before = await fill(world)
    await rotate(world)
    await rotate(world, NEW, PASSPHRASE)
    assert await opened(world.conninfo, PASSPHRASE) == before
    assert await keys_in_use(world) != {"data"}


async def test_its_beginning_and_end_are_in_the_audit_trail_without_a_secret(world: World) -> None:
    before = await fill(world)
    await rotate(world)
    found = await kit.rows(
        world,
        """SELECT action, actor, resource_id, details FROM audit_events
           WHERE action LIKE 'secrets_rotation%%' ORDER BY sequence""",
    )
    key = await kit.value(world, "SELECT id FROM sealing_keys")
    assert [row["action"] for row in found] == [
        "secrets_rotation_begun",
        "secrets_rotation_finished",
    ]
    assert {(row["actor"], row["resource_id"]) for row in found} == {(ACTOR.id, key)}
    assert [row["details"] for row in found] == [
        {"replaces": "data"},
        {"replaces": "data", "values": len(before)},
    ]


async def test_a_running_server_seals_and_opens_before_during_and_after(
    world: World, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await fill(world)
    (version,) = [place for place in before if place[0] == "certificate_versions"]
    monkeypatch.setattr(rotation, "BATCH", 1)
    async with a_server(world) as ring:
        async for served in open_world(database, ring):
            on = served.platform
            rotating = asyncio.create_task(rotate(world))
            while not rotating.done():
                async with on.db.transaction() as tx:
                    sealed = ring.seal(b"{}", PLACE)
                    await secrets.put_config(tx, "issuers", "iss-local", sealed=sealed)
                blob = await kit.value(served, "SELECT sealed_key FROM certificate_versions")
                assert ring.unseal(bytes(blob), Place(*version)) == before[version]
            await rotating
            await kit.an_issued_certificate(served, name="after")
            assert ring.current.id == await kit.value(served, "SELECT id FROM sealing_keys")
    assert (await opened(world.conninfo, NEW))[PLACE.table, PLACE.column, PLACE.id] == b"{}"


async def test_a_server_that_does_not_take_up_the_new_key_is_waited_for(world: World) -> None:
    before = await fill(world, old_versions=False)
    async with world.platform.db.read() as deaf:
        await deaf.run("SELECT pg_advisory_lock_shared(%(a)s, hashtext('data'))", a=key_watch.LOCKS)
        with pytest.raises(Conflict, match="has not taken up the new data key"):
            await rotate(world, patience=0.5)
        assert await keys_in_use(world) == {"data"}
        await deaf.run("SELECT pg_advisory_unlock_all()")
    for passphrase in (PASSPHRASE, NEW):
        assert await opened(world.conninfo, passphrase) == before
    await rotate(world)
    assert await opened(world.conninfo, NEW) == before


async def test_a_value_sealed_under_the_first_key_at_the_last_moment_is_not_lost(
    world: World,
) -> None:
    await fill(world)
    late = world.platform.data_key.seal(b'{"late": 1}', PLACE)
    written = []

    def write() -> None:
        """The last look at the values lies behind, the removal of the key ahead."""
        if not written:
            written.append(True)
            run(world.conninfo, f"UPDATE issuers SET sealed_config = '\\x{late.hex()}'")

    await rotate(world, keep=write)
    found = await opened(world.conninfo, NEW)
    assert found[PLACE.table, PLACE.column, PLACE.id] == b'{"late": 1}'


async def test_two_rotations_do_not_run_at_once(world: World) -> None:
    async with key_watch.one_rotation(world.conninfo):
        with pytest.raises(Conflict, match="another"):
            await rotate(world)


async def test_the_same_passphrase_again_is_refused_and_changes_nothing(world: World) -> None:
    before = await fill(world)
    with pytest.raises(Unsafe, match="is the present one"):
        await rotate(world, new=PASSPHRASE)
    assert await opened(world.conninfo, PASSPHRASE) == before
    assert await kit.value(world, "SELECT count(*) FROM sealing_keys") == 1


async def test_a_value_that_does_not_open_stops_it_with_its_place_and_removes_nothing(
    world: World,
) -> None:
    await fill(world, old_versions=False)
    await kit.change(
        world, "UPDATE certificate_versions SET sealed_key = sealed_key || '\\x00'::bytea"
    )
    with pytest.raises(Unsafe, match=r"certificate_versions\.sealed_key of cv-.* does not open"):
        await rotate(world)
    assert await kit.value(world, "SELECT count(*) FROM sealing_keys") == 2
    await kit.change(world, "UPDATE certificate_versions SET sealed_key = NULL")
    await rotate(world)
    assert await kit.value(world, "SELECT count(*) FROM sealing_keys") == 1


@pytest.mark.parametrize("other", [NEW, b"another passphrase than the first time"])
async def test_an_interrupted_rotation_may_go_on_to_another_passphrase(
    world: World, other: bytes
) -> None:
    """Before the file of the passphrase was replaced, the present one is still the first."""
    before = await fill(world)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await rotate(world, keep=stop)
    await rotate(world, new=other)
    assert await opened(world.conninfo, other) == before


async def test_a_rotation_interrupted_before_its_last_step_goes_on_under_the_new_passphrase(
    world: World,
) -> None:
    before = await fill(world)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await rotate(world, keep=stop)

    def never() -> bytes:
        raise AssertionError("the passphrase in use is the new one already")

    passphrases = rotation.Passphrases(NEW, never, lambda: None)
    patience = timedelta(seconds=5)
    await rotation.rotate(world.platform.db, ACTOR, passphrases, patience=patience)
    assert await opened(world.conninfo, NEW) == before


async def test_a_server_that_missed_a_whole_rotation_says_what_to_do(world: World) -> None:
    ring = await sealing.open_keyring(world.platform.db, PASSPHRASE)
    await rotate(world)
    async with world.platform.db.read() as session:
        with pytest.raises(Unsafe, match="start it again with the new"):
            await sealing.refresh(session, ring)


async def test_a_value_that_somebody_has_locked_is_waited_for(world: World) -> None:
    before = await fill(world)
    async with world.platform.db.transaction() as tx:
        await tx.run("SELECT FROM issuers WHERE id = 'iss-local' FOR UPDATE")
        rotating = asyncio.create_task(rotate(world))
        done, _ = await asyncio.wait([rotating], timeout=1)
        assert not done
    await rotating
    assert await opened(world.conninfo, NEW) == before


async def test_a_watch_that_lost_its_connection_takes_its_lock_again(world: World) -> None:
    held = """SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database
              WHERE d.datname = current_database() AND l.locktype = 'advisory'
                AND l.classid = %(a)s AND l.mode = 'ShareLock'"""
    async with a_server(world) as ring:
        first = await kit.value(world, held, a=key_watch.LOCKS)
        await kit.change(world, "SELECT pg_terminate_backend(%(pid)s)", pid=first)
        async with asyncio.timeout(20):
            while await kit.value(world, held, a=key_watch.LOCKS) in {None, first}:
                await asyncio.sleep(0.05)
        await rotate(world)
        assert ring.current.id != "data"
