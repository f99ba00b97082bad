"""What a client writes to `/requests/{uid}/{requestId}`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from concierge.errors import InvalidArgument
from concierge.kit.canonical import fingerprint
from concierge.kit.ids import REQUEST_ID

TEXT_MAX_CHARACTERS = 32_000


def _whole(value: Any) -> Any:
    """JSON has one type of numbers: 5.0 is the integer 5. A text or a boolean is not."""
    return int(value) if type(value) is float and value.is_integer() else value


WholeNumber = Annotated[int, Field(strict=True), BeforeValidator(_whole)]
Kind = Literal["chat", "image", "vision", "agent", "auto"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Attachment(_Body):
    """A file that the client uploaded through a signed URL."""

    path: Annotated[str, Field(strict=True, min_length=1, max_length=1024)]
    content_type: Annotated[str, Field(strict=True, min_length=1, max_length=100)]


class Options(_Body):
    """What the client may choose for one request."""

    model: Annotated[str, Field(strict=True, min_length=1, max_length=200)] | None = None
    max_tokens: Annotated[WholeNumber, Field(ge=1, le=200_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None


class Request(_Body):
    """One request. `created_at` is milliseconds since the epoch; it is not part of the idempotent body."""

    kind: Kind
    conversation_id: Annotated[str, Field(strict=True, min_length=1, max_length=128)]
    text: Annotated[str, Field(strict=True, min_length=1, max_length=TEXT_MAX_CHARACTERS)]
    attachments: tuple[Attachment, ...] = Field(default=(), max_length=10)
    options: Options = Options()
    created_at: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    def body_hash(self) -> str:
        """Equal for a repeated request, different for another one under the same id."""
        return fingerprint(self.model_dump(mode="json", exclude={"created_at"}))


def parse_request(request_id: str, raw: Any) -> Request:
    """Raises InvalidArgument naming the first field that is missing, mistyped, oversized or unknown."""
    if not REQUEST_ID.fullmatch(request_id):
        raise InvalidArgument("requestId", "A request id has 1 to 128 letters, digits, - or _, and no _ in front.")
    if not isinstance(raw, dict):
        raise InvalidArgument("request", "A request is an object.")
    try:
        request = Request.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "request"
        raise InvalidArgument(field, f"{field}: {first['msg']}") from None
    if not request.text.strip():
        raise InvalidArgument("text", "text: there is nothing to answer")
    return request
