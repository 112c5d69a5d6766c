"""One update: declare what is pending, ask for all rules, publish them. Raises what went wrong.

Coroutines over one function that exchanges a request for an answer. When updates are made, and what
becomes of their errors, is the core's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from heksher import protocol
from heksher.context import Tracking
from heksher.declaration import Catalogue, declaration_of, explain_refusal, plan
from heksher.exceptions import InvalidResponseError, ServiceError, UnexpectedStatusError
from heksher.served import Entry, ServedSettings, Stage
from heksher.setting import Setting

_logger = logging.getLogger(__name__)

T = TypeVar("T")

# A longer filter is not sent; the answer is filtered here in any case.
_MAX_FILTER_LENGTH = protocol.MAX_QUERY_LENGTH // 2


class ExchangeFunction(Protocol):
    """Sends a request and reads the answer."""

    def __call__(self, exchange: protocol.Exchange[T], /) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the last update asked for. Its ETags hold as long as an answer would be read the same."""

    features: tuple[str, ...]
    tracking: Tracking
    adoptions: int
    etags: Mapping[str, str]


@dataclass(slots=True)
class _Fetched:
    """The answers to the parts of one query.

    Attributes:
        sections: undecoded, by current name; those of unchanged parts are left out.
        answered: the names that were answered, unchanged ones included.
        etags: by URL, for the next time.
    """

    sections: dict[str, bytes] = field(default_factory=dict[str, bytes])
    answered: set[str] = field(default_factory=set[str])
    etags: dict[str, str] = field(default_factory=dict[str, str])


class Updater:
    """Updates the settings of one client. Not for two tasks or threads at a time.

    Args:
        exchange: reaches the service.
        served: the settings.
    """

    def __init__(self, exchange: ExchangeFunction, served: ServedSettings) -> None:
        self._exchange = exchange
        self._served = served
        self._asked: _Asked | None = None
        #: Why declarations were refused, by name.
        self.refusals: dict[str, str] = {}

    async def update(self) -> None:
        """Declare and refresh.

        Raises:
            ServiceError: something failed and should be tried again; the rest was done nevertheless.
        """
        failure = await self._declare_pending()
        await self._refresh()
        if failure is not None:
            raise failure

    # --- declaring --------------------------------------------------------------------------------

    async def _declare_pending(self) -> ServiceError | None:
        """Declare what the service does not have as it is declared here, one after another.

        Returns:
            The error of a declaration that has to be tried again; the others are done nevertheless.
        """
        pending = self._served.pending()
        if not pending:
            return None
        catalogue = Catalogue((await self._exchange(protocol.settings())).values())
        failure: ServiceError | None = None
        for entry, setting in pending:
            try:
                await self._declare(entry, setting, catalogue)
            except (UnexpectedStatusError, InvalidResponseError) as error:
                _logger.debug("the declaration of setting %r failed: %s", entry.name, error)
                failure = error
        return failure

    async def _declare(self, entry: Entry, setting: Setting[Any], catalogue: Catalogue) -> None:
        decision = plan(declaration_of(setting), catalogue)
        if decision.unknown_alias:
            _logger.warning(
                "setting %r: the service knows no alias %r, it is left out",
                setting.name,
                setting.alias,
            )
        stage = Stage.KNOWN
        exists = catalogue.find(setting.name) is not None
        for declaration in decision.declarations:
            answer = await self._exchange(protocol.declare(declaration))
            _logger.debug("setting %r at %s: %s", setting.name, declaration.version, answer.outcome)
            if answer.outcome is protocol.Outcome.OUTDATED:
                _logger.warning(
                    "setting %r is declared at version %s, the service has %s: "
                    "its default value and rules are used as far as they fit",
                    setting.name,
                    declaration.version,
                    answer.service_version,
                )
            if not answer.accepted:
                self.refusals[setting.name] = explain_refusal(declaration, answer)
                _logger.error("setting %r: %s", setting.name, self.refusals[setting.name])
                if not exists:
                    stage = Stage.LOST
                break
            exists = True
        entry.current_name = decision.current_name
        entry.stage = stage

    # --- refreshing -------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        """Fetch the features' order and all rules, and publish what changed."""
        features = await self._exchange(protocol.context_features())
        tracking, adoptions = self._served.reading()
        etags: Mapping[str, str] = {}
        last = self._asked
        if last is not None and (last.features, last.adoptions) == (features, adoptions):
            # A new Tracking is made for each change, so that identity will do.
            etags = last.etags if last.tracking is tracking else {}
        filters = tracking.query_filter()
        if filters is not None and len(filters) > _MAX_FILTER_LENGTH:
            filters = None

        failure: ServiceError | None = None
        names = self._served.known_names()
        fetched = await self._query(names, filters, etags)
        if fetched is None or not fetched.answered.issuperset(names):
            # Somebody deleted or renamed a setting.
            self._served.reconcile(Catalogue((await self._exchange(protocol.settings())).values()))
            failure = await self._declare_pending()
            fetched = await self._query(self._served.known_names(), filters, {})
            if fetched is None:
                raise failure or ServiceError("the service refuses the names that it lists itself")
        self._served.publish(fetched.sections, features, tracking)
        self._asked = _Asked(features, tracking, adoptions, fetched.etags)
        if failure is not None:
            raise failure

    async def _query(
        self, names: Sequence[str], filters: str | None, etags: Mapping[str, str]
    ) -> _Fetched | None:
        """Ask for the rules of *names*; None if the service does not have one of them."""
        fetched = _Fetched()
        for part in protocol.split_names(names, filters):
            target = protocol.query_target(part, filters)
            etag = etags.get(target)
            answer = await self._exchange(protocol.query(part, filters, etag))
            if isinstance(answer, protocol.UnknownNames):
                return None
            if isinstance(answer, protocol.NotModified):
                if etag is not None:
                    fetched.etags[target] = etag
                fetched.answered.update(part)
                continue
            fetched.sections.update(answer.sections)
            fetched.answered.update(answer.sections)
            if answer.etag is not None:
                fetched.etags[target] = answer.etag
        return fetched
