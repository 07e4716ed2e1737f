"""Schemas of predictions, receipts and feedback under ``/v1``."""

from datetime import date, datetime
from typing import Annotated, Any, Self

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    SkipValidation,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError, from_json
from slipway_contract.body import read_json
from slipway_contract.errors import MalformedRequest

from slipway_gateway.http.schema import RequestSchema, Schema

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


def _loads(content: bytes) -> Any:
    """Parse JSON with orjson, or with pydantic for NaN.

    orjson needs half the time. The signature then rejects NaN with the name of the input.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return from_json(content)


def _are_rows(given: Any) -> Any:
    """Validate that every item is an object.

    pydantic's own validator would copy all items and create an error for each invalid one.
    """
    if not isinstance(given, list):
        raise PydanticCustomError("list_type", "is not a list of rows")
    if not given:
        raise PydanticCustomError("too_short", "is empty; send at least one row")
    wrong = next((index for index, row in enumerate(given) if type(row) is not dict), None)
    if wrong is not None:
        raise PydanticCustomError(
            "dict_type", "row {row} is not an object of inputs by name", {"row": wrong}
        )
    return given


Rows = Annotated[list[dict[str, Any]], SkipValidation, AfterValidator(_are_rows)]


class PredictionRequest(RequestSchema):
    """Rows of named features. A missing value is null where the signature allows it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"instances": [HEART]}]}
    )

    instances: Rows = Field(
        description="one object for each row, with the inputs by name",
        json_schema_extra={"minItems": 1},
    )

    @classmethod
    def of_body(cls, content: bytes, limit: int) -> Self:
        """Return the validated request of a JSON body.

        Raises RequestValidationError with the first error, and TooManyValues for more than
        ``limit`` values.
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
    """The feature set of the looked-up inputs and its freshness."""

    name: str
    newest: date = Field(description="day of the newest fact in the feature set")
    age_seconds: float = Field(description="seconds since the end of that day in UTC")
    computed: datetime
    synthetic: bool = Field(description="true: the facts are generated")


class PredictionAnswer(Schema):
    """The predictions, one object for each row in request order, and the version they are from."""

    predictions: list[dict[str, Any]] = Field(examples=[[{"label": 1, "probability": 0.93}]])
    request_id: str
    model: str
    version: str
    digest: str
    features: FeaturesAnswer | None = Field(
        default=None, description="present if inputs were looked up"
    )


class FeedbackRequest(RequestSchema):
    """The true outcome of a prediction, a comment, or both."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"label": 1, "comment": "confirmed by angiography"}]},
    )

    label: Any = Field(
        default=None, description="the true outcome, in the terms of the model's label output"
    )
    comment: str | None = Field(default=None, max_length=2000)

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if self.label is None and self.comment is None:
            raise ValueError("has neither label nor comment; send at least one")
        return self

    @field_validator("label", "comment")
    @classmethod
    def _can_be_stored(cls, value: Any) -> Any:
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
    """Stored feedback."""

    feedback_id: str
    request_id: str
    time: datetime
    subject: str
    label: Any
    comment: str | None


class FeedbackList(Schema):
    """Feedback on a prediction, newest first."""

    feedback: list[FeedbackAnswer]


class ImageLink(Schema):
    """An input image of a prediction."""

    number: int
    digest: str = Field(description="sha256:… of the uploaded file")
    url: str


class Dataset(Schema):
    """The training dataset of a version."""

    model_config = ConfigDict(extra="allow")

    name: str | None = None
    digest: str | None = None
    licence: str | None = None
    source: str | None = None


class Receipt(Schema):
    """The complete record of one prediction."""

    request_id: str
    time: datetime
    model: str
    version: str
    digest: str
    verified: bool | None = Field(
        description="false: the runtime does not prove that it answered from this digest"
    )
    run_id: str | None = Field(description="MLflow run that created the version")
    dataset: Dataset | None
    git_revision: str | None
    image: str | None = Field(description="container image that trained the version")
    role: str = Field(description="traffic role of the version: live, canary, previous, draining")
    caller: str = Field(
        description="`user:` and `sub` of the token, or `client:` and the id of a service account"
    )
    decision: str = Field(description="the access rule that allowed the request")
    protocol: str
    status: int
    latency_ms: float
    request: Any = Field(description="V2 request; null if it exceeded the size limit of the log")
    response: Any = Field(description="V2 response; null if it exceeded the size limit of the log")
    bodies_removed: datetime | None = Field(
        description="when retention removed `request` and `response`, which are null since then"
    )
    feedback: FeedbackAnswer | None
    images: list[ImageLink] = Field(description="the uploaded files that are still stored")


class AcceptedTask(Schema):
    """The response to ``Prefer: respond-async``."""

    task_id: str
    state: str
    location: str
    """Path of the task."""
