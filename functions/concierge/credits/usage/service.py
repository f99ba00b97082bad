"""What may be asked about usage: a handful of documents, one for each month, however long the history is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

from google.api_core import exceptions as google_exceptions

from concierge.credits.usage.analytics import GroupBy, Period, daily_costs, last_days, report
from concierge.credits.usage.cells import months_between, to_document
from concierge.credits.usage.reconciler import Reconciler
from concierge.credits.usage.repository import UsageRepository
from concierge.errors import Unavailable
from concierge.kit.timestamps import rfc3339

BURN_DAYS = 30


class Usage:
    """All methods raise Unavailable if Firestore does not answer."""

    def __init__(
        self,
        repository: UsageRepository,
        reconciler: Reconciler,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._repository = repository
        self._reconciler = reconciler
        self._now = now

    def today(self) -> date:
        return self._now().astimezone(UTC).date()

    def analytics(self, uid: str, period: Period, group_by: GroupBy) -> dict[str, Any]:
        """`{totals, groups, reconciled, asOf}` of one person, up to this moment."""
        with _answering():
            months = self._repository.months(uid, months_between(period.first, period.last))
            reconciled = self._reconciler.reconciled(uid)
        return {**report(months, period, group_by), "reconciled": reconciled, "asOf": rfc3339(self._now())}

    def overall(self, period: Period, group_by: GroupBy) -> dict[str, Any]:
        """The same of everybody, as it was rolled up last; not reconciled before it was for the first time."""
        with _answering():
            months, check = self._repository.overall(months_between(period.first, period.last))
        return {
            **report(months, period, group_by),
            "reconciled": check is not None and check.reconciled,
            "asOf": rfc3339(check.at) if check is not None else None,
        }

    def daily_costs(self, uid: str, days: int = BURN_DAYS) -> dict[date, int]:
        """Microcredits charged on each of the last days, today included; days without any are left out."""
        period = last_days(self.today(), days)
        with _answering():
            return daily_costs(self._repository.months(uid, months_between(period.first, period.last)), period)

    def export(self, uid: str) -> dict[str, Any]:
        """Everything that was counted of one person: `{YYYY-MM: {days: {DD: {kind: {model: counters}}}}}`."""
        with _answering():
            months = self._repository.all_months(uid)
        return {month: to_document(counted) for month, counted in sorted(months.items())}


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (google_exceptions.GoogleAPICallError, google_exceptions.RetryError) as error:
        raise Unavailable("Usage cannot be read at the moment.") from error
