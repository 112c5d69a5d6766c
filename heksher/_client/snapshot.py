"""The rules on disk, for a start without the service: one file, which is replaced as a whole.

Knows files and undecoded sections of answers, and nothing of settings or backends. All calls block, so
they are made where no event loop waits, and by one thread at a time.

**The content.** The first line holds what the file is, the number of its format, and a checksum of the
rest. The rest is JSON: where the rules are from, what was asked for, and the section of each setting as
the service sent it. The client keeps none of that in memory. An update brings only the sections that
changed, so the others are copied from the file.

**No error.** A snapshot makes a bad day better, and must not make a good day bad: an application that runs
without one must not fail because a disk is full or a file is damaged. So whatever goes wrong here is not
raised. It becomes a reason in the status, and one line in the log.

**Reading.** The path may lead into a folder that other users can write to, so it may hold anything. A
pipe would block the reader, a link could lead anywhere, and whoever may write rules decides what the
application does. So the file is opened without following a link and without blocking, and what was opened
is checked by its descriptor (by its path, it could be exchanged in between). Whoever could have written it
must be this user, root, or a member of this process's groups. These count because they may share a
volume: Kubernetes lets the group write to each file of a volume with ``fsGroup``, at each mount, and
OpenShift may run the next process as another user of the group.

**Writing.** Several processes may share the file, each may be killed at any moment, and a reader must
never see half a file. Locks of the operating system do not fit: they differ between systems, and some
network file systems have none. Instead:

1. The new content goes into a second file, ``PATH.new``, that `os.O_EXCL` creates. It succeeds for one
   process only, and fails for a link, so that this file is also the lock. The others wait two seconds,
   and leave the rest to a later update.
2. A process that is killed leaves the second file behind. It counts as abandoned, and is removed, if it
   was last changed more than a minute ago, or by as much in the future: the clock was set back.
3. A process may also be slow: suspended, or held up by its disk. By the time it is done, another one may
   have removed its file and created its own under the same name. So before the renaming it checks that
   the name still leads to the file that it wrote, by device and inode.
4. The content depends on what was in the file before the second one was created. If the file has changed
   since, by inode, size or time, it is read again.
5. `os.fsync` precedes the renaming. Without it, some file systems write the new name first, and a crash of
   the system leaves an empty file, or one full of zeros.
6. `os.replace` is atomic: a reader opens the old file or the new one.

Only a file that begins as a snapshot does is replaced, or one that is empty or full of zeros. Anything
else at the path may be somebody's work.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec

from heksher._application_code import get_logger
from heksher._client.files import reason_of
from heksher._rules.tracking import Tracking
from heksher._text import encodable, excerpt, joined, one_line
from heksher._wire import bounded, split
from heksher.exceptions import InvalidResponseError
from heksher.status import SnapshotStatus

_logger = get_logger(__name__)

_MAGIC = b"heksher snapshot "
_FORMAT = 1
# The bytes in which the first line must end, also that of a later format, so that its number is found.
_MAX_FIRST_LINE = 1024

# Seconds after which an untouched second file counts as abandoned.
_ABANDONED = 60.0
# Seconds to wait for another process to finish writing, and between two looks.
_PATIENCE = 2.0
_NAP = 0.02
# The updates to let pass, at most, between two attempts to write everything after a failure.
_MAX_PAUSE = 64

# A flag that a system does not have is left out there. O_NONBLOCK: opening a pipe would wait for a writer.
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _FLAGS
_CREATING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
_OWNER_ONLY = 0o600


@dataclass(frozen=True, slots=True)
class SnapshotData:
    """Rules to be saved, or loaded ones.

    Attributes:
        sections: undecoded, by the setting's name in the application.
        features: the context features in the service's order.
        tracking: what was tracked when the service was asked.
        is_complete: whether the sections are those of all settings, and not only of changed ones.
    """

    sections: Mapping[str, bytes]
    features: Sequence[str]
    tracking: Tracking
    is_complete: bool = True


class _Contents(msgspec.Struct, frozen=True):
    """The JSON behind the first line.

    Attributes:
        service: the service's address, without credentials.
        context_features: the features that the client lists, sorted.
        features: the service's features, in its order.
        tracking: the tracked values by feature, None for all of them. If it is empty, everything is
            tracked.
        written: seconds since the epoch.
        settings: undecoded sections by the setting's name in the application.
    """

    service: str
    context_features: list[str]
    features: list[str]
    tracking: dict[str, list[str] | None]
    written: float
    settings: dict[str, msgspec.Raw]


class _UnusableFile(Exception):
    """The file cannot be used. The message says why.

    Attributes:
        may_be_replaced: whether it is a snapshot, though an unusable one, so that it may be replaced.
    """

    def __init__(self, reason: str, *, may_be_replaced: bool = True) -> None:
        super().__init__(reason)
        self.may_be_replaced = may_be_replaced


class SnapshotFile:
    """The snapshot of one client. Other processes may use the same file.

    Args:
        path: the file's absolute path.
        service: the service's address, without credentials.
        context_features: the features that the client lists.
        limit: the most bytes that are read or written.

    Attributes:
        status: the state of the file. It is replaced and never changed.
    """

    def __init__(
        self, path: str, service: str, context_features: Sequence[str], limit: int
    ) -> None:
        self._path = path
        self._new_path = f"{path}.new"
        self._service = service
        self._context_features = sorted(context_features)
        self._limit = limit
        self.status = SnapshotStatus(encodable(path))
        # The settings that this client has saved, and whether the file has all their newest sections.
        self._saved: set[str] = set()
        self._is_complete = True
        # Failures in a row, and the updates to let pass before everything is written again.
        self._failures = 0
        self._pause = 0

    def load(self, tracking: Tracking) -> SnapshotData | None:
        """Return what the file holds, or None if there is none, or if the status says why it is refused.

        Args:
            tracking: what the client tracks. A file that was written when less was tracked lacks rules.
        """
        try:
            contents = self._read(tracking)
        except Exception as error:
            reason = reason_of(error)
            if self.status.refused != reason:
                _logger.warning("the snapshot %s is not used: %s", self.status.path, reason)
            self.status = replace(self.status, refused=reason)
            return None
        if contents is None:
            return None
        _logger.info("loaded the snapshot %s", self.status.path)
        self.status = replace(self.status, is_loaded=True, written=contents.written, refused=None)
        sections = {name: bytes(section) for name, section in contents.settings.items()}
        return SnapshotData(sections, contents.features, tracking)

    def save(self, data: SnapshotData) -> bool:
        """Write the sections of an update, unless the file has them already.

        Returns:
            False if the file lacks sections that did not change with this update, so that the next
            update should ask for everything.
        """
        if data.is_complete:
            self._saved.clear()
        self._saved.update(data.sections)
        try:
            contents = self._write(data)
        except Exception as error:
            reason = reason_of(error)
            self._is_complete = False
            self._failures += 1
            self._pause = min(2**self._failures, _MAX_PAUSE)
            self.status = replace(self.status, error=reason)
            if self._failures == 1:
                _logger.warning("the snapshot %s cannot be written: %s", self.status.path, reason)
            return True  # `needs_everything` says when to try again
        self._is_complete = data.is_complete or (
            self._is_complete and self._saved <= contents.settings.keys()
        )
        if self._failures:
            _logger.info("the snapshot %s is written again", self.status.path)
        self._failures = self._pause = 0
        self.status = replace(self.status, written=contents.written, error=None)
        return self._is_complete

    def needs_everything(self) -> bool:
        """Whether the next update should ask for everything. Call it after an update without news.

        After a failed write the next one is retried with backoff, counted in updates.
        """
        if self._is_complete:
            return False
        self._pause -= 1
        return self._pause < 0

    # --- reading ----------------------------------------------------------------------------------

    def _read(self, tracking: Tracking) -> _Contents | None:
        """Return what the file holds, or None if there is none.

        Raises:
            _UnusableFile: it is not a snapshot, or not safe, or damaged, or not for this client.
        """
        try:
            descriptor = os.open(self._path, _READING)
        except FileNotFoundError:
            return None
        except OSError as error:
            # It may be anything, such as a socket.
            is_link = os.path.islink(self._path)
            reason = "it is a symbolic link" if is_link else reason_of(error)
            raise _UnusableFile(reason, may_be_replaced=False) from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _UnusableFile("it is not a regular file", may_be_replaced=False)
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(self._limit + 1)
        except OSError as error:
            raise _UnusableFile(reason_of(error)) from None
        finally:
            os.close(descriptor)
        if not data.startswith(_MAGIC):
            is_blank = not data.strip(b"\0")
            raise _UnusableFile("it is not a heksher snapshot", may_be_replaced=is_blank)
        if hasattr(os, "geteuid"):  # on Windows neither owner nor mode means anything
            _check_writers(found)
        contents = self._decode(data)
        self._check_origin(contents, tracking)
        return contents

    def _decode(self, data: bytes) -> _Contents:
        line, _, rest = data[:_MAX_FIRST_LINE].partition(b"\n")
        number, _, stated = line.removeprefix(_MAGIC).partition(b" ")
        if not number.isdigit():
            raise _UnusableFile("it is damaged: its first line has no format number")
        if number != b"%d" % _FORMAT:
            raise _UnusableFile(
                f"its format is {excerpt(number, 20)}; this version of heksher reads {_FORMAT}"
            )
        if len(data) > self._limit:
            raise _UnusableFile(f"it is larger than max_response_bytes={self._limit}")
        rest = data[len(line) + 1 :]
        if checksum(rest) != stated:
            raise _UnusableFile("it is damaged: its checksum does not match")
        try:
            return split(bounded(rest, "it"), _Contents, "it is damaged")
        except InvalidResponseError as error:
            raise _UnusableFile(str(error)) from None

    def _check_origin(self, contents: _Contents, tracking: Tracking) -> None:
        """Check that the service would answer this client the same."""
        if contents.service != self._service:
            raise _UnusableFile(
                f"it is from another service: {excerpt(contents.service.encode(), 200)} "
                f"instead of {self._service}"
            )
        if contents.context_features != self._context_features:
            features = one_line(joined(contents.context_features), 200)
            raise _UnusableFile(
                f"it was written with other context features: {features} "
                f"instead of {joined(self._context_features)}"
            )
        tracked = {
            feature: None if values is None else frozenset(values)
            for feature, values in contents.tracking.items()
        }
        if not Tracking(tracked).includes(tracking):
            raise _UnusableFile("it lacks rules: fewer contexts were tracked when it was written")

    # --- writing ----------------------------------------------------------------------------------

    def _write(self, data: SnapshotData) -> _Contents:
        """Bring *data* into the file, and return what the file holds then.

        Raises:
            _UnusableFile: it must not be replaced.
            OSError: it cannot be written.
        """
        identity = self._identity()
        present = self._present(data.tracking)
        contents = self._merged(data, present)
        if (
            present is not None
            and msgspec.structs.replace(contents, written=present.written) == present
        ):
            return present  # another process has written it
        descriptor = self._create()
        mine = os.fstat(descriptor)
        try:
            with open(descriptor, "wb") as file:
                if hasattr(os, "fchmod"):  # not on Windows
                    # The umask may have taken permissions from the owner as well.
                    os.fchmod(descriptor, _OWNER_ONLY)
                if self._identity() != identity:
                    contents = self._merged(data, self._present(data.tracking))
                file.write(self._encode(contents))
                file.flush()
                os.fsync(descriptor)
            if not os.path.samestat(mine, os.lstat(self._new_path)):
                raise OSError("another process took over writing because this one was slow")
            os.replace(self._new_path, self._path)
        except BaseException:
            with suppress(OSError):
                if os.path.samestat(mine, os.lstat(self._new_path)):
                    os.unlink(self._new_path)
            raise
        return contents

    def _identity(self) -> tuple[int, ...]:
        """Return what differs between the file and another one that takes its place."""
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _present(self, tracking: Tracking) -> _Contents | None:
        """Return what the file holds, or None if it is of no use and may be replaced.

        Raises:
            _UnusableFile: it must not be replaced.
        """
        try:
            return self._read(tracking)
        except _UnusableFile as error:
            if not error.may_be_replaced:
                raise
            return None

    def _merged(self, data: SnapshotData, present: _Contents | None) -> _Contents:
        """Return what the file should hold. Sections of other processes' settings are kept."""
        return _Contents(
            self._service,
            self._context_features,
            list(data.features),
            data.tracking.as_lists(),
            time.time(),
            {
                **({} if present is None else present.settings),
                **{name: msgspec.Raw(section) for name, section in data.sections.items()},
            },
        )

    def _encode(self, contents: _Contents) -> bytes:
        rest = msgspec.json.encode(contents)
        data = b"%s%d %s\n%s" % (_MAGIC, _FORMAT, checksum(rest), rest)
        if len(data) > self._limit:
            raise _UnusableFile(
                f"it would have {len(data)} bytes, more than max_response_bytes={self._limit}"
            )
        return data

    def _create(self) -> int:
        """Create the second file, once no other process writes."""
        for _ in range(1 + int(_PATIENCE / _NAP)):
            try:
                return os.open(self._new_path, _CREATING, _OWNER_ONLY)
            except FileExistsError:
                if not self._remove_abandoned():
                    time.sleep(_NAP)
        raise _UnusableFile("another process is writing it")

    def _remove_abandoned(self) -> bool:
        """Remove a second file that was abandoned; return whether creating it can be retried at once."""
        try:
            is_abandoned = abs(time.time() - os.lstat(self._new_path).st_mtime) > _ABANDONED
            if is_abandoned:
                os.unlink(self._new_path)
        except FileNotFoundError:
            return True  # the other process has just finished
        return is_abandoned


def _check_writers(found: os.stat_result) -> None:
    """Check that only this user, root, and members of this process's groups could have written it."""
    group = bool(found.st_mode & stat.S_IWGRP)
    is_shared = group and found.st_gid in (os.getegid(), *os.getgroups())
    if found.st_uid not in (os.geteuid(), 0) and not is_shared:
        raise _UnusableFile("it belongs to another user")
    if found.st_mode & stat.S_IWOTH or (group and not is_shared):
        raise _UnusableFile("users other than its owner and this process's groups can write to it")


def checksum(data: bytes) -> bytes:
    """Return the checksum for the first line. It detects accidents, and proves no origin."""
    return hashlib.blake2b(data, digest_size=16).hexdigest().encode()
