"""The control API under ``/v1``."""

import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import ValidationError
from slipway_contract.errors import InvalidInput
from slipway_contract.events import FeedbackEvent
from slipway_contract.signature import Signature
from slipway_contract.v2 import InferenceResponse
from sqlalchemy import Row

from slipway_gateway import form
from slipway_gateway.access import Role
from slipway_gateway.answers import (
    Dataset,
    FeedbackAnswer,
    FeedbackRequest,
    Me,
    ModelAnswer,
    ModelList,
    PredictionAnswer,
    PredictionRequest,
    Problem,
    Receipt,
)
from slipway_gateway.body import Body
from slipway_gateway.catalogue import Catalogue
from slipway_gateway.errors import CutOff, NotFound, Refused, Unavailable
from slipway_gateway.eventlog import EventLog
from slipway_gateway.grantwatch import GrantWatch
from slipway_gateway.pictures import Pictures
from slipway_gateway.prediction import Call, Predictions, error_text
from slipway_gateway.ranking import add_top, probabilities
from slipway_gateway.requestid import PATTERN, new_id
from slipway_gateway.routing import Route, Routes, Target
from slipway_gateway.shipper import Shipper


def current_call(request: Request) -> Call:
    """What the door found out about this request."""
    call: Call = request.scope["slipway.call"]
    return call


CurrentCall = Annotated[Call, Depends(current_call)]
STATUSES = (400, 401, 403, 404, 409, 413, 415, 422, 429, 503, 504)
_PROBLEM = {"application/problem+json": {"schema": Problem.model_json_schema(by_alias=True)}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": _PROBLEM} for status in STATUSES
}

Top = Annotated[int | None, Query(ge=1, le=1000, description="give each row its likeliest classes, so many")]
_FORM = {"type": "object", "description": "files in the field of the input that takes pictures; other inputs by their names"}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": PredictionRequest.model_json_schema(by_alias=True)},
            form.KIND: {"schema": _FORM},
        },
    }
}


class Control:
    """The routes and what they work with."""

    def __init__(
        self,
        routes: Routes,
        grants: GrantWatch,
        predictions: Predictions,
        catalogue: Catalogue,
        events: EventLog,
        shipper: Shipper,
        pictures: Pictures,
    ) -> None:
        self._routes = routes
        self._grants = grants
        self._predictions = predictions
        self._catalogue = catalogue
        self._events = events
        self._shipper = shipper
        self._pictures = pictures

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1", responses=PROBLEMS)
        router.get("/me", summary="Who am I")(self.me)
        router.get("/models", summary="The models that are granted to me")(self.models)
        router.get("/models/{model}", summary="One model")(self.model)
        predict = router.post(
            "/models/{model}/predictions", summary="Predict from named features or pictures", openapi_extra=BODY
        )
        predict(self.predict)
        router.get("/predictions/{request_id}", summary="The receipt of a prediction")(self.receipt)
        router.post("/predictions/{request_id}/feedback", status_code=201, summary="Say what became known")(self.give_feedback)
        return router

    async def me(self, call: CurrentCall) -> Me:
        caller = call.caller
        expires = datetime.fromtimestamp(caller.expires, UTC)
        return Me(
            subject=caller.subject, name=caller.name, groups=list(caller.groups), roles=sorted(caller.roles), expires=expires
        )

    async def models(self, call: CurrentCall) -> ModelList:
        granted, now = self._grants.snapshot, time.time()
        routes = [route for name, route in sorted(self._routes.snapshot.items()) if granted.find(call.caller, name, now)]
        return ModelList(models=[await self._describe(route) for route in routes])

    async def model(self, model: str) -> ModelAnswer:
        return await self._describe(self._routes.get(model))

    async def _describe(self, route: Route) -> ModelAnswer:
        live, signature = route.live, None
        if live:
            try:
                signature = await self._catalogue.signature(live)
            except Unavailable:
                signature = None
        return ModelAnswer(
            name=route.model.name,
            ready=route.ready,
            version=live.version if live else None,
            digest=live.digest if live else None,
            message=route.message,
            signature=signature,
        )

    async def predict(
        self, model: str, request: Request, call: CurrentCall, response: Response, top: Top = None
    ) -> PredictionAnswer:
        target = self._routes.pick(model)
        signature = await self._catalogue.signature(target)
        if top and not probabilities(signature):
            raise InvalidInput("top", "this model gives no probabilities of classes")
        inference = signature.request(await self._instances(request, signature), call.request_id)
        body = Body(orjson.dumps(inference.model_dump(exclude_none=True)))
        answer = await self._predictions.ask(call, target, body)
        try:
            content = await answer.whole()
        except CutOff as error:
            raise Unavailable("the model broke off its answer", retry_after=2) from error
        if answer.status != 200:
            raise Refused(answer.status, error_text(content), target.headers)
        rows = signature.rows(_read(content, target).outputs)
        if top:
            add_top(rows, signature, top)
        for name, value in target.headers:
            response.headers[name.decode()] = value.decode()
        return PredictionAnswer(
            predictions=rows, request_id=call.request_id, model=model, version=target.version, digest=target.digest
        )

    async def _instances(self, request: Request, signature: Signature) -> list[dict[str, Any]]:
        if form.is_form(request):
            return await form.rows(request, signature, self._pictures)
        return PredictionRequest.of_body(await request.body()).instances

    async def receipt(self, request_id: str, call: CurrentCall) -> Receipt:
        row = await self._own(request_id, call, or_admin=True)
        provenance = await self._catalogue.provenance(row.digest)
        feedback = await self._events.feedback(request_id)
        return _receipt(row, provenance, feedback)

    async def give_feedback(self, request_id: str, said: FeedbackRequest, call: CurrentCall) -> FeedbackAnswer:
        await self._own(request_id, call, or_admin=False)
        event = FeedbackEvent(
            feedback_id=new_id(),
            request_id=request_id,
            time=datetime.now(UTC),
            subject=call.caller.subject,
            label=said.label,
            comment=said.comment,
        )
        await self._events.add_feedback(event)
        return FeedbackAnswer.model_validate(event.model_dump())

    async def _own(self, request_id: str, call: Call, *, or_admin: bool) -> Row[Any]:
        """The logged prediction, also one of a moment ago. Someone else's does not exist. Raises NotFound."""
        row = await self._logged(request_id) if PATTERN.fullmatch(request_id) else None
        if row is None or not (row.subject == call.caller.subject or (or_admin and Role.ADMIN in call.caller.roles)):
            raise NotFound(f"there is no prediction {request_id}")
        return row

    async def _logged(self, request_id: str) -> Row[Any] | None:
        row = await self._events.prediction(request_id)
        if row is None:
            await self._shipper.flush()
            row = await self._events.prediction(request_id)
        return row


def _read(content: bytes, target: Target) -> InferenceResponse:
    try:
        return InferenceResponse.model_validate_json(content)
    except ValidationError as error:
        raise Unavailable(f"version {target.version} of model {target.model} gave an answer that is not V2") from error


def _receipt(row: Row[Any], provenance: dict[str, Any], feedback: Row[Any] | None) -> Receipt:
    dataset = provenance.get("dataset")
    return Receipt(
        request_id=row.request_id,
        time=row.time,
        model=row.model,
        version=row.version,
        digest=row.digest,
        run_id=row.run_id or provenance.get("runId"),
        dataset=Dataset.model_validate(dataset) if isinstance(dataset, dict) else None,
        git_revision=provenance.get("gitRevision"),
        image=provenance.get("image"),
        role=row.role,
        caller=row.subject,
        decision=row.decision,
        protocol=row.protocol,
        status=row.status,
        latency_ms=row.latency_ms,
        request=_content(row.request),
        response=_content(row.response),
        feedback=FeedbackAnswer.model_validate(feedback._asdict()) if feedback else None,
    )


def _content(body: str | None) -> Any:
    """A logged body as JSON; as text when it is not (a malformed request is logged too)."""
    if body is None:
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
