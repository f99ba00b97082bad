"""/api/v1/credits/analytics and /low-balance-check: what was used, and how long what is left will last.

Amounts are integers of microcredits, in JSON fields that end in `Microcredits`; docs/analytics.md has the formulas.
"""

from datetime import date, timedelta
from typing import Annotated, Literal

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue
from pydantic import AfterValidator, Field

from concierge.api.support import Schema, Subject, deps, query, require_admin, subject
from concierge.credits.usage.analytics import GroupBy, Period
from concierge.errors import InvalidArgument
from concierge.ledger.transfers import Head

PERIOD_DAYS_MAX = 366
PERIOD_DAYS = 30

blueprint = Blueprint("analytics", __name__)


def _calendar_date(text: str) -> str:
    """Raises ValueError for what is no date of the calendar."""
    date.fromisoformat(text)
    return text


Date = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), AfterValidator(_calendar_date)]


class AnalyticsQuery(Schema):
    uid: str | None = None
    scope: Literal["user", "overall"] = "user"
    from_: Annotated[Date | None, Field(alias="from")] = None
    to: Date | None = None
    group_by: GroupBy = "day"

    def period(self, today: date) -> Period:
        """The days that are asked for; the last 30 unless said otherwise. Raises InvalidArgument."""
        last = date.fromisoformat(self.to) if self.to is not None else today
        if self.from_ is not None:
            first = date.fromisoformat(self.from_)
        else:
            first = last - min(timedelta(days=PERIOD_DAYS - 1), last - date.min)
        if first > last:
            raise InvalidArgument("from", "from: must not be later than to")
        period = Period(first, last)
        if period.days > PERIOD_DAYS_MAX:
            raise InvalidArgument("to", f"to: at most {PERIOD_DAYS_MAX} days from `from` on")
        return period


@blueprint.get("/credits/analytics")
def analytics() -> ResponseReturnValue:
    """`{scope, uid?, from, to, groupBy, totals, groups, reconciled, asOf}` of one person, or for administrators of
    all."""
    asked = query(AnalyticsQuery)
    usage = deps().usage()
    if asked.scope == "overall":
        require_admin()
        if asked.uid is not None:
            raise InvalidArgument("uid", "uid: not together with scope=overall")
        period = asked.period(usage.today())
        found, about = usage.overall(period, asked.group_by), {}
    else:
        uid = subject(asked.uid)
        period = asked.period(usage.today())
        found, about = usage.analytics(uid, period, asked.group_by), {"uid": uid}
    return jsonify(
        scope=asked.scope,
        **about,
        **{"from": period.first.isoformat()},
        to=period.last.isoformat(),
        groupBy=asked.group_by,
        **found,
    )


@blueprint.get("/credits/low-balance-check")
def low_balance_check() -> ResponseReturnValue:
    """Whether the balance is below its threshold now, and what to top up. Nobody is notified by it."""
    uid = subject(query(Subject).uid)
    check = deps().low_balance().check(uid, deps().ledger.head(uid) or Head())
    return jsonify(
        uid=uid,
        low=check.low,
        thresholdMicrocredits=check.threshold,
        postedMicrocredits=check.posted,
        availableMicrocredits=check.available,
        burnMicrocreditsPerDay=check.recommendation.burn_per_day,
        daysLeft=check.recommendation.days_left,
        recommendedMicrocredits=check.recommendation.recommended,
    )
