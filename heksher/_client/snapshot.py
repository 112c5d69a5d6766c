"""The rules on disk, for a start without a service: one file, which is replaced as a whole.

Knows files, and answers of the service as undecoded JSON; nothing of settings or backends. All calls
block, so they are made where no event loop waits, and by one thread at a time. Nothing that goes wrong
with the file is an error of the application's: it is a reason in the status, and a line in the log.

The file begins with a line: what it is, the number of the format, and a checksum of all that follows.
That is JSON: where the rules are from, what was asked for, and the section of each setting as the
service sent it. Memory holds none of that. So what did not come with an update is copied from the file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

import msgspec

from heksher._rules.tracking import Tracking
from heksher._text import excerpt
from heksher._wire import Undecoded
from heksher.exceptions import InvalidArgumentError
from heksher.status import SnapshotStatus

_logger = logging.getLogger(__name__)

#: As ``open()`` takes it, but for bytes.
AnyPath: TypeAlias = "str | os.PathLike[str]"

_MAGIC = b"heksher snapshot "
_FORMAT = 1
# More than the first line of any format that is to be told by its number.
_FIRST_LINE = 1024

# The file that is being written holds others off, and is left behind by a process that is killed
# meanwhile: after so many seconds nobody waits for it any more.
_ABANDONED = 60.0
_PATIENCE = 2.0
_NAP = 0.02

# How many updates pass at most between two that ask for everything, since writing failed.
_LONGEST_PAUSE = 64

# What not every system has is left out there.
_READING = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # so that a pipe at the path keeps nobody waiting
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_CREATING = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_OWNER_ONLY = 0o600


@dataclass(frozen=True, slots=True)
class SnapshotData:
    """What an update was told of settings.

    Attributes:
        sections: undecoded, by the setting's name here.
        features: the context features in the service's order.
        tracking: what was tracked when the service was asked.
        is_complete: whether no setting was left out since it had not changed.
    """

    sections: Mapping[str, Undecoded]
    features: Sequence[str]
    tracking: Tracking
    is_complete: bool = True


class _Contents(msgspec.Struct, frozen=True):
    """What stands in the file behind its first line.

    Attributes:
        service: the service's address, without credentials.
        context_features: those that the client lists, sorted.
        features: those of the service, in its order.
        tracking: values by feature, None for all; empty for everything.
        written: when, in seconds since the epoch.
        settings: undecoded sections by the setting's name in the application.
    """

    service: str
    context_features: list[str]
    features: list[str]
    tracking: dict[str, list[str] | None]
    written: float
    settings: dict[str, msgspec.Raw]


class _Refused(Exception):
    """The file cannot be used; the text says why.

    Attributes:
        may_be_replaced: whether it is ours to write over.
    """

    def __init__(self, reason: str, *, may_be_replaced: bool = True) -> None:
        super().__init__(reason)
        self.may_be_replaced = may_be_replaced


class SnapshotFile:
    """The file of one client. Other processes may use it as well.

    Args:
        path: the file, absolute.
        service: the service's address, without credentials.
        context_features: those that the client lists.
        limit: the most bytes that are read or written.

    Attributes:
        status: how it stands. Replaced, never changed.
    """

    def __init__(
        self, path: str, service: str, context_features: Sequence[str], limit: int
    ) -> None:
        self._path = path
        self._new_path = f"{path}.new"
        self._service = service
        self._context_features = sorted(context_features)
        self._limit = limit
        self.status = SnapshotStatus(path)
        # The settings whose sections were brought into the file, and whether they are all there as
        # they came.
        self._names: set[str] = set()
        self._is_whole = True
        self._failures = 0
        self._pause = 0

    def load(self, tracking: Tracking) -> SnapshotData | None:
        """Return what the file says, or None: it is not there, or refused, for a reason in the status.

        Args:
            tracking: what the client tracks. A file for which less was tracked does not have it all.
        """
        try:
            contents = self._usable(self._read(), tracking)
        except Exception as error:
            reason = _said(error)
            if self.status.refused != reason:
                _logger.warning("the snapshot %s is not used: %s", self._path, reason)
            self.status = replace(self.status, refused=reason)
            return None
        if contents is None:
            return None
        _logger.info("loaded the snapshot %s", self._path)
        self.status = replace(self.status, is_loaded=True, written=contents.written, refused=None)
        return SnapshotData(contents.settings, contents.features, tracking)

    def save(self, told: SnapshotData) -> bool:
        """Bring what an update was told into the file, unless it stands there already.

        Returns:
            False if the file lacks what did not come with this update, so that the next one should be
            told everything.
        """
        if told.is_complete:
            self._names.clear()
        self._names.update(told.sections)
        try:
            contents = self._bring(told)
        except Exception as error:
            self._is_whole = False
            self._note_failure(_said(error))
            return True  # for now: `needs_everything` says when to try again
        self._is_whole = told.is_complete or (
            self._is_whole and self._names <= contents.settings.keys()
        )
        if self._failures:
            _logger.info("the snapshot %s is written again", self._path)
        self._failures = self._pause = 0
        self.status = replace(self.status, written=contents.written, error=None)
        return self._is_whole

    def needs_everything(self) -> bool:
        """Say, after an update that brought nothing, whether the next one should be told everything.

        It should where writing failed before, and from time to time only: that it works again shows
        when it is tried.
        """
        if self._is_whole:
            return False
        self._pause -= 1
        return self._pause < 0

    def _note_failure(self, reason: str) -> None:
        self._failures += 1
        self._pause = min(2**self._failures, _LONGEST_PAUSE)
        self.status = replace(self.status, error=reason)
        if self._failures == 1:
            _logger.warning("the snapshot %s cannot be written: %s", self._path, reason)

    # --- reading ----------------------------------------------------------------------------------

    def _read(self) -> _Contents | None:
        """Read the file, whichever client wrote it; None: there is none.

        Raises:
            _Refused: it is none of ours, or unsafe, or damaged.
        """
        try:
            descriptor = os.open(self._path, _READING)
        except FileNotFoundError:
            return None
        except OSError as error:
            # Nobody knows what it holds, or whether it is a file: it might be a socket.
            reason = "it is a symbolic link" if os.path.islink(self._path) else _said(error)
            raise _Refused(reason, may_be_replaced=False) from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _Refused("it is no file", may_be_replaced=False)
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(self._limit + 1)
        except OSError as error:
            raise _Refused(_said(error)) from None
        finally:
            os.close(descriptor)
        if not data.startswith(_MAGIC):
            # One that is empty, or filled with zeros, is what a crash of the system can leave.
            may_be_replaced = not data.strip(b"\0")
            raise _Refused("it is no snapshot of heksher", may_be_replaced=may_be_replaced)
        _check_safety(found)
        return self._decode(data)

    def _decode(self, data: bytes) -> _Contents:
        line, _, rest = data[:_FIRST_LINE].partition(b"\n")
        number, _, stated = line.removeprefix(_MAGIC).partition(b" ")
        if not number.isdigit():
            raise _Refused("it is damaged: its first line is")
        if number != b"%d" % _FORMAT:
            raise _Refused(
                f"its format is {excerpt(number, 20)}, and this version of heksher reads {_FORMAT}"
            )
        if len(data) > self._limit:
            raise _Refused(f"it is larger than max_response_bytes={self._limit}")
        rest = data[len(line) + 1 :]
        if checksum(rest) != stated:
            raise _Refused("it is damaged: its checksum is another one")
        try:
            return msgspec.json.decode(rest, type=_Contents)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _Refused(f"it is damaged: {error}") from None

    def _usable(self, contents: _Contents | None, tracking: Tracking) -> _Contents | None:
        """Return *contents* if they are what the service would tell this client.

        Raises:
            _Refused: they are not.
        """
        if contents is None:
            return None
        if contents.service != self._service:
            theirs = excerpt(contents.service.encode(), 200)
            raise _Refused(f"it is of another service: {theirs} instead of {self._service}")
        if contents.context_features != self._context_features:
            theirs = excerpt(", ".join(contents.context_features).encode(), 200)
            raise _Refused(
                f"it is of a client with other context features: {theirs} "
                f"instead of {', '.join(self._context_features)}"
            )
        if not _tracked(contents).includes(tracking):
            raise _Refused("it lacks rules: less was tracked when it was written")
        return contents

    # --- writing ----------------------------------------------------------------------------------

    def _bring(self, told: SnapshotData) -> _Contents:
        """Return what the file holds in the end.

        Raises:
            _Refused: it is not ours to write over.
            OSError: it cannot be written.
        """
        seen = self._identity()
        stands = self._standing(told.tracking)
        wanted = self._wanted(told, stands)
        if stands is not None and _is_same(stands, wanted):
            return stands  # another process has been there
        descriptor = self._create()
        mine = os.fstat(descriptor)
        try:
            with open(descriptor, "wb") as file:
                if hasattr(os, "fchmod"):  # the umask may take from the owner as well
                    os.fchmod(descriptor, _OWNER_ONLY)
                # Nobody else writes any more.
                if self._identity() != seen:
                    wanted = self._wanted(told, self._standing(told.tracking))
                file.write(self._encode(wanted))
                file.flush()
                os.fsync(descriptor)
            if not os.path.samestat(mine, os.lstat(self._new_path)):
                raise OSError("another process has taken the writing over, for this one was slow")
            os.replace(self._new_path, self._path)
        except BaseException:
            with suppress(OSError):
                if os.path.samestat(mine, os.lstat(self._new_path)):
                    os.unlink(self._new_path)
            raise
        return wanted

    def _identity(self) -> tuple[int, ...]:
        """Return what tells the file from another one that takes its place."""
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _standing(self, tracking: Tracking) -> _Contents | None:
        """Return what the file holds, if it is of use.

        Raises:
            _Refused: it is not ours to write over.
        """
        try:
            return self._usable(self._read(), tracking)
        except _Refused as refusal:
            if not refusal.may_be_replaced:
                raise
            return None

    def _wanted(self, told: SnapshotData, stands: _Contents | None) -> _Contents:
        """Return what the file should hold, where this stands in it."""
        # What other processes wrote, which may use other settings, is kept.
        kept = {} if stands is None else stands.settings
        return _Contents(
            self._service,
            self._context_features,
            list(told.features),
            told.tracking.as_lists(),
            time.time(),
            {**kept, **told.sections},
        )

    def _encode(self, contents: _Contents) -> bytes:
        rest = msgspec.json.encode(contents)
        data = b"%s%d %s\n%s" % (_MAGIC, _FORMAT, checksum(rest), rest)
        if len(data) > self._limit:
            raise _Refused(
                f"it would have {len(data)} bytes, more than max_response_bytes={self._limit}"
            )
        return data

    def _create(self) -> int:
        """Create the file that takes the place of the present one, once nobody else writes it."""
        tries = int(_PATIENCE / _NAP)
        while True:
            try:
                return os.open(self._new_path, _CREATING, _OWNER_ONLY)
            except FileExistsError:
                if self._remove_if_abandoned():
                    continue
            tries -= 1
            if tries <= 0:
                raise _Refused("another process writes it")
            time.sleep(_NAP)

    def _remove_if_abandoned(self) -> bool:
        """Return whether that can be tried again at once."""
        try:
            # In the future: a clock was set back meanwhile, or is another computer's.
            is_abandoned = abs(time.time() - os.lstat(self._new_path).st_mtime) > _ABANDONED
            if is_abandoned:
                os.unlink(self._new_path)
        except FileNotFoundError:
            return True  # it has just been removed, or has taken its place
        return is_abandoned


def checked_path(path: object) -> str:
    """Return the path of a snapshot as an absolute one.

    Raises:
        InvalidArgumentError: it is none.
    """
    if isinstance(path, (str, os.PathLike)):
        text = os.fspath(cast(AnyPath, path))
        if isinstance(text, str) and text and "\0" not in text:
            try:
                return os.path.abspath(text)
            except OSError as error:
                raise InvalidArgumentError(
                    f"snapshot={path!r}: the folder that the process is in is gone: {error.strerror}; "
                    "give an absolute path"
                ) from None
    raise InvalidArgumentError(f"snapshot={path!r}: the path of a file is wanted, or None")


def _check_safety(found: os.stat_result) -> None:
    """See that nobody else can write to a file.

    Raises:
        _Refused: somebody can.
    """
    if not hasattr(os, "geteuid"):  # on Windows modes say nothing
        return
    if found.st_uid not in (os.geteuid(), 0):
        raise _Refused("it belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _Refused("others than its owner can write to it")


def checksum(data: bytes) -> bytes:
    """Return what the first line says of the others: against accidents, and no proof of an origin."""
    return hashlib.blake2b(data, digest_size=16).hexdigest().encode()


def _tracked(contents: _Contents) -> Tracking:
    return Tracking(
        {
            feature: None if values is None else frozenset(values)
            for feature, values in contents.tracking.items()
        }
    )


def _is_same(one: _Contents, other: _Contents) -> bool:
    """Whether they differ in nothing but the time."""
    return msgspec.structs.replace(one, written=other.written) == other


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
