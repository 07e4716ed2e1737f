"""What goes in and out under ``/v1``: camelCase JSON, described for OpenAPI."""

from datetime import date, datetime
from typing import Annotated, Any, Self

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SkipValidation,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError, from_json
from slipway_contract.body import CallerBody, read_json
from slipway_contract.errors import MalformedRequest
from slipway_contract.signature import Signature

HEART: dict[str, JsonValue] = {
    "age": 63,
    "sex": 1,
    "cp": 1,
    "trestbps": 145,
    "chol": 233,
    "fbs": 1,
    "restecg": 2,
    "thalach": 150,
}
HEART |= {"exang": 0, "oldpeak": 2.3, "slope": 3, "ca": 0, "thal": 6}


class Schema(BaseModel):
    """camelCase outside."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, protected_namespaces=()
    )


class RequestSchema(Schema, CallerBody):
    """The body of a request."""


class Me(Schema):
    """The caller, as the token says."""

    subject: str = Field(
        description=(
            "how receipts, usage, grants and the audit name the caller: `user:ada` or "
            "`client:nightly`"
        )
    )
    account: str = Field(description="`sub` of the token")
    name: str | None
    groups: list[str]
    roles: list[str]
    expires: datetime


class ModelAnswer(Schema):
    """A model and what it is doing."""

    name: str
    ready: bool
    version: str | None = Field(description="the version with the largest share of the traffic")
    digest: str | None = Field(description="sha256:… of that version's artifact")
    message: str = Field(description="what the Ready condition says")
    signature: Signature | None = Field(
        description="inputs and outputs; null while the version cannot be asked"
    )


class ModelList(Schema):
    """Every model that is granted to the caller, by name."""

    models: list[ModelAnswer]


def _loads(content: bytes) -> Any:
    """orjson takes half the time; pydantic's parser reads NaN, too, so that the signature can
    refuse it by the input's name.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return from_json(content)


def _are_rows(given: Any) -> Any:
    """Stop at the first item that is no object. pydantic would copy all of them, and make an error
    of each.
    """
    if not isinstance(given, list):
        raise PydanticCustomError("list_type", "is not a list of rows")
    if not given:
        raise PydanticCustomError("too_short", "is empty; send at least one row")
    wrong = next((index for index, row in enumerate(given) if type(row) is not dict), None)
    if wrong is not None:
        raise PydanticCustomError(
            "dict_type", "row {row} is not an object with every input by its name", {"row": wrong}
        )
    return given


Rows = Annotated[list[dict[str, Any]], SkipValidation, AfterValidator(_are_rows)]


class PredictionRequest(RequestSchema):
    """Rows of named features. Missing values are null where the signature allows them."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"instances": [HEART]}]}
    )

    instances: Rows = Field(
        description="one object a row, with every input by its name",
        json_schema_extra={"minItems": 1},
    )

    @classmethod
    def of_body(cls, content: bytes, limit: int) -> Self:
        """Raises RequestValidationError with the first error, and TooManyValues when there are more
        than ``limit``.
        """
        try:
            return cls.model_validate(read_json(content, limit, _loads))
        except MalformedRequest as error:
            raise RequestValidationError(
                [{"type": "json_invalid", "loc": ("body",), "msg": str(error)}]
            ) from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise RequestValidationError([{**first, "loc": ("body", *first["loc"])}]) from None


class FeaturesAnswer(Schema):
    """Where values come from that the caller did not give."""

    name: str
    newest: date = Field(description="day of the newest fact that they know of")
    age_seconds: float = Field(description="since the end of that day, UTC")
    computed: datetime
    synthetic: bool = Field(description="whether the facts are generated")


class PredictionAnswer(Schema):
    """One object a row, in the order of the request, and which version said so."""

    predictions: list[dict[str, Any]] = Field(examples=[[{"label": 1, "probability": 0.93}]])
    request_id: str
    model: str
    version: str
    digest: str
    features: FeaturesAnswer | None = Field(
        default=None, description="only when inputs were looked up"
    )


class FeedbackRequest(RequestSchema):
    """What became known after a prediction."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"label": 1, "comment": "confirmed by angiography"}]},
    )

    label: Any = Field(
        default=None, description="the true outcome, in the terms of the model's label output"
    )
    comment: str | None = Field(default=None, max_length=2000)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.label is None and self.comment is None:
            raise ValueError("give a label, a comment, or both")
        return self

    @field_validator("label", "comment")
    @classmethod
    def _can_be_kept(cls, value: Any) -> Any:
        try:
            content = orjson.dumps(value)
        except orjson.JSONEncodeError:
            raise ValueError("is not plain JSON") from None
        if len(content) > 16 * 2**10:
            raise ValueError("is longer than 16 KiB")
        if b"\\u0000" in content:
            raise ValueError("has a NUL character")
        return orjson.loads(content)


class FeedbackAnswer(Schema):
    """Feedback as it was written down."""

    feedback_id: str
    request_id: str
    time: datetime
    subject: str
    label: Any
    comment: str | None


class FeedbackList(Schema):
    """What was said of a prediction, corrections first."""

    feedback: list[FeedbackAnswer]


class ImageLink(Schema):
    """An image that a prediction was made from."""

    number: int
    digest: str = Field(description="sha256:… of the file as it was sent")
    url: str


class Dataset(Schema):
    """What the version was trained on."""

    model_config = ConfigDict(extra="allow")

    name: str | None = None
    digest: str | None = None
    licence: str | None = None
    source: str | None = None


class Receipt(Schema):
    """The whole story of one prediction."""

    request_id: str
    time: datetime
    model: str
    version: str
    digest: str
    run_id: str | None = Field(description="MLflow run that made the version")
    dataset: Dataset | None
    git_revision: str | None
    image: str | None = Field(description="container image that trained the version")
    role: str = Field(description="traffic role of the version: live, canary, previous, draining")
    caller: str = Field(
        description="`user:` and `sub` of the token; of a service account `client:` and its id"
    )
    decision: str = Field(description="the access rule that let the caller in")
    protocol: str
    status: int
    latency_ms: float
    request: Any = Field(description="V2 request; null when it was over the limit of the log")
    response: Any = Field(description="V2 response; null when it was over the limit of the log")
    feedback: FeedbackAnswer | None
    images: list[ImageLink] = Field(description="the uploaded files, as long as they are kept")


class Problem(Schema):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[dict[str, str]] | None = None
