"""What an event of each topic says. A literal registry: a topic that is not here cannot be published."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Topic = Literal["credits.low", "integrity.alert"]


class Payload(BaseModel):
    """Base of all payloads: camelCase names, as clients and the database have them; amounts in microcredits."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class CreditsLow(Payload):
    """A balance fell below its threshold, once for each time that it does."""

    uid: str
    seq: Annotated[int, Field(ge=0)]
    posted_microcredits: int
    threshold_microcredits: Annotated[int, Field(ge=0)]
    recommended_microcredits: Annotated[int, Field(ge=0)]


class IntegrityAlert(Payload):
    """Something about the ledger is wrong, or unusual enough to be looked at. `uid` is None where it is about no
    single account."""

    code: str
    severity: Literal["WARNING", "ERROR", "CRITICAL"]
    uid: str | None = None
    seq: int | None = None
    message: str


PAYLOADS: dict[Topic, type[Payload]] = {"credits.low": CreditsLow, "integrity.alert": IntegrityAlert}
