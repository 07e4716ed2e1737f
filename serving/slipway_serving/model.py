"""The model class of MLServer's interface; it serves any artifact with a signature."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from mlserver import MLModel, ModelSettings
from mlserver.types import (
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataTensor,
    Parameters,
    ResponseOutput,
)
from slipway_contract.registry import CARD, ArtifactFormat
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, Tensor

from slipway_serving.artifact import Artifact
from slipway_serving.batches import Batches, Predict
from slipway_serving.predictor import Predictor
from slipway_serving.tensors import contract_tensors, to_array, to_output
from slipway_serving.threads import run

INLINE_VALUES = 16_384
"""Values, or characters of texts, that are predicted in the event loop.

Larger requests run in a thread, so that probes are answered meanwhile.
"""

_PLATFORMS = {
    ArtifactFormat.ONNX: "onnxruntime_onnx",
    ArtifactFormat.SKOPS: "sklearn_skops",
    ArtifactFormat.RULES: "slipway_rules",
    ArtifactFormat.JOBLIB: "sklearn_joblib",
}


class SlipwayModel(MLModel):  # type: ignore[misc]  # MLServer comes without types
    """Serves the artifact in ``parameters.uri``, with the settings in ``parameters.extra``.

    The storage initializer writes ``parameters.extra``. Each request is validated with the
    signature before the model receives it.
    """

    def __init__(self, settings: ModelSettings, threads: int = 1) -> None:
        super().__init__(settings)
        self._threads = threads
        self._artifact: Artifact
        self._predictor: Predictor
        self._respond: Predict = self._predict

    async def load(self) -> bool:
        """Load the artifact. Raises Refused when it cannot be served."""
        parameters = self.settings.parameters
        self._artifact = Artifact.read(
            Path(parameters.uri), ArtifactFormat(parameters.extra["format"])
        )
        self._predictor = self._artifact.load(self._threads)
        self._outputs = {column.name: column for column in self.signature.outputs}
        if Batches.are_enabled(self.settings):
            self._respond = Batches(self.settings, self.signature, self._predict)
        return True

    @property
    def signature(self) -> Signature:
        return self._artifact.signature

    async def metadata(self) -> MetadataModelResponse:
        """Return V2 metadata from the signature.

        ``parameters`` has the registered model, the artifact's digest, its provenance, an example
        request and the model card.
        """
        extra = self.settings.parameters.extra
        parameters = {
            **self._artifact.provenance,
            **{key: extra[key] for key in ("registeredModel", "digest") if key in extra},
        }
        if self._artifact.example is not None:
            parameters["example"] = self._artifact.example
        if self._artifact.card is not None:
            parameters[CARD] = self._artifact.card
        return MetadataModelResponse(
            name=self.name,
            versions=[self.version] if self.version else [],
            platform=_PLATFORMS[self._artifact.format],
            inputs=[_metadata(column) for column in self.signature.inputs],
            outputs=[_metadata(column) for column in self.signature.outputs],
            parameters=Parameters(**parameters, version=self.version),
        )

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Return the outputs of a request. Raises InvalidInput or MalformedRequest."""
        is_large = sum(len(item.data.root) for item in payload.inputs) > INLINE_VALUES
        tensors = await run(is_large, self._checked, payload)
        names = [output.name for output in payload.outputs or ()] or list(self._outputs)
        self.signature.check_outputs(names)
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=await self._respond(tensors, names),
        )

    def _checked(self, payload: InferenceRequest) -> list[Tensor]:
        tensors = contract_tensors(payload.inputs)
        self.signature.check(tensors)
        return tensors

    async def _predict(
        self, tensors: Sequence[Tensor], names: Sequence[str]
    ) -> list[ResponseOutput]:
        if sum(map(_values, tensors)) > INLINE_VALUES:
            return await asyncio.to_thread(self._run, tensors, names)
        return self._run(tensors, names)

    def _run(self, tensors: Sequence[Tensor], names: Sequence[str]) -> list[ResponseOutput]:
        by_name = {tensor.name: tensor for tensor in tensors}
        arrays = {
            column.name: to_array(by_name[column.name], column) for column in self.signature.inputs
        }
        given = self._predictor.run(arrays, names)
        rows = len(next(iter(arrays.values())))
        return [to_output(given[name], self._outputs[name], rows) for name in names]


def _values(tensor: Tensor) -> int:
    if tensor.datatype is Datatype.BYTES:
        return sum(len(text or "") for text in tensor.data)
    return len(tensor.data)


def _metadata(column: Column) -> MetadataTensor:
    return MetadataTensor.model_validate(column.metadata.model_dump(mode="json", exclude_none=True))
