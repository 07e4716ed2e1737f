"""Model signature: names, datatypes, units, bounds, codes and missing values of its columns."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from slipway_contract.errors import InvalidInput, InvalidOutput
from slipway_contract.v2 import (
    Datatype,
    InferenceRequest,
    ModelMetadata,
    Tensor,
    TensorMetadata,
    check_values,
    element_count,
    flatten,
    short,
)
from slipway_contract.values import plain_values

ROUNDING = {Datatype.FP16: 2e-3, Datatype.FP32: 1e-5, Datatype.FP64: 1e-5}
"""Tolerance of an output beyond its bounds, relative to a bound above 1: sums are rounded."""


class ImageSpec(BaseModel):
    """Conversion of an image to the values of an input, the same for every caller.

    A pixel's part of 0..255 is scaled to ``black``..``white``, then ``(value - mean) / deviation``
    is applied to each channel.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    width: int = Field(ge=1, le=4096)
    height: int = Field(ge=1, le=4096)
    mode: Literal["L", "RGB"] = Field(default="RGB", description="grey, or three channels")
    layout: Literal["HWC", "CHW"] = Field(
        default="HWC", description="whether the channels are the last dimension or the first"
    )
    fit: Literal["stretch", "contain", "cover"] = Field(
        default="stretch", description="to the size: as it is, with a margin, or cut at the sides"
    )
    crop: float = Field(
        default=1,
        gt=0,
        le=1,
        description="share of each side that is kept around the centre; below 1 only with cover",
    )
    resampling: Literal["box", "bilinear", "bicubic"] = Field(
        default="box", description="filter that makes a value from the pixels around it"
    )
    black: float = Field(default=0, description="value of a black pixel")
    white: float = Field(default=1, description="value of a white pixel")
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    ground: Literal["black", "white"] | None = Field(
        default=None,
        description=(
            "the ground that the model expects; an image whose border is nearer to the other one "
            "is inverted"
        ),
    )
    trim: bool = Field(
        default=False, description="whether the ground around the content is cut away first"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for name, values in (("mean", self.mean), ("deviation", self.deviation)):
            if len(values) not in (1, self.channels):
                raise ValueError(f"{name}: {len(values)} values for {self.channels} channels")
        if any(value <= 0 for value in self.deviation):
            raise ValueError("deviation: must be positive")
        if self.trim and self.ground is None:
            raise ValueError("trim: needs a ground to cut away")
        if self.crop < 1 and self.fit != "cover":
            raise ValueError(f"crop: needs the fit cover; it is {self.fit}")
        return self

    @property
    def channels(self) -> int:
        return len(self.mode)

    @property
    def values(self) -> int:
        return self.width * self.height * self.channels


class Lookup(BaseModel):
    """Feature lookup: a caller sends keys, and a day if there is one, in place of an input's value.

    It is the same for all inputs of a model that are looked up. The feature of an input has the
    input's name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: str = Field(
        min_length=1, max_length=100, description="the feature set, and the version of its meaning"
    )
    keys: tuple[str, ...] = Field(
        min_length=1, description="keys that a caller sends, as store and product"
    )
    date: str | None = Field(
        default="date",
        min_length=1,
        description="name of the field with the requested day; null: the features have no days",
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        if len(set(self.names)) != len(self.names) or not all(self.keys):
            raise ValueError(f"names are empty or not unique: {', '.join(self.names)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that a caller sends."""
        return self.keys if self.date is None else (*self.keys, self.date)


def _present(values: Sequence[Any]) -> list[Any]:
    return [v for v in values if v is not None and v == v]  # only NaN differs from itself


class Column(BaseModel):
    """One named input or output.

    ``shape`` is that of one row: ``[]`` is a scalar per row, ``[64]`` a vector. In a request a
    tensor has the number of rows as an additional first dimension.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    datatype: Datatype
    shape: tuple[int, ...] = ()
    description: str = ""
    unit: str | None = Field(default=None, description="UCUM code of the unit, for example mm[Hg]")
    minimum: float | None = Field(default=None, description="smallest value allowed")
    maximum: float | None = Field(default=None, description="largest value allowed")
    codes: dict[int, str] | None = Field(
        default=None, description="the allowed codes and what each means"
    )
    classes: tuple[str, ...] | None = Field(
        default=None, description="class of each value of a vector"
    )
    categories: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="the allowed texts"
    )
    missing: bool = Field(
        default=False,
        description=(
            "whether null may stand for an unknown value; of texts, the empty one is the same"
        ),
    )
    max_length: int | None = Field(
        default=None, ge=1, description="characters that a text may have"
    )
    image: ImageSpec | None = Field(
        default=None, description="the values are those of an image, converted in this way"
    )
    lookup: Lookup | None = Field(default=None, description="the value can be looked up")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if any(size < 1 for size in self.shape):
            raise ValueError(f"{self.name}: shape {list(self.shape)} of one row must be positive")
        if self.missing and not (self.datatype.is_float or self.datatype is Datatype.BYTES):
            raise ValueError(f"{self.name}: only floating-point inputs and texts can be missing")
        numeric = self.datatype.bounds is not None
        if not numeric and (self.minimum, self.maximum, self.codes) != (None, None, None):
            raise ValueError(f"{self.name}: bounds and codes need a numeric datatype")
        if self.max_length is not None and self.datatype is not Datatype.BYTES:
            raise ValueError(f"{self.name}: only text has a length")
        if self.categories is not None:
            self._check_categories(self.categories)
        if self.classes is not None and self.shape != (len(self.classes),):
            raise ValueError(
                f"{self.name}: {len(self.classes)} classes do not fit {list(self.shape)}"
            )
        if self.image is not None and (
            not numeric or self.image.values != element_count(self.shape)
        ):
            raise ValueError(
                f"{self.name}: an image of {self.image.values} values does not fit "
                f"{list(self.shape)}"
            )
        if self.lookup is not None and self.shape:
            raise ValueError(f"{self.name}: only single values are looked up")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(
                f"{self.name}: minimum {self.minimum:g} is above maximum {self.maximum:g}"
            )
        return self

    def _check_categories(self, categories: tuple[str, ...]) -> None:
        if self.datatype is not Datatype.BYTES:
            raise ValueError(f"{self.name}: only text has categories; numbers have codes")
        if len(set(categories)) != len(categories) or "" in categories:
            raise ValueError(f"{self.name}: categories are empty or not unique")

    @property
    def metadata(self) -> TensorMetadata:
        """V2 metadata; fields that V2 does not have are in ``parameters``."""
        known = {"name", "datatype", "shape"}
        parameters = self.model_dump(mode="json", exclude=known, exclude_defaults=True)
        return TensorMetadata(
            name=self.name,
            datatype=self.datatype,
            shape=[-1, *self.shape],
            parameters=parameters or None,
        )

    @classmethod
    def of_metadata(cls, tensor: TensorMetadata) -> Self:
        """Return the column that ``metadata`` describes.

        Parameters that a column does not have are ignored, as are those that V2 has fields for: a
        server of another author may send anything. Raises ValidationError.
        """
        known = {k: v for k, v in (tensor.parameters or {}).items() if k in cls.model_fields}
        described = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape[1:]}
        return cls.model_validate(known | described)

    def rows_of(self, tensor: Tensor) -> int:
        """Return the number of rows of a tensor; raise InvalidInput when its shape does not fit."""
        shape = tensor.shape
        # A scalar column is accepted as [rows] and as [rows, 1]: V2 clients write both.
        if shape and self.has_shape(shape, shape[0]):
            return shape[0]
        wanted = ["rows", *map(str, self.shape)]
        raise InvalidInput(self.name, f"shape {shape} does not fit; expected [{', '.join(wanted)}]")

    def check(self, tensor: Tensor) -> int:
        """Return the number of rows; raise InvalidInput unless the tensor fits."""
        rows = self.rows_of(tensor)
        if tensor.datatype is not self.datatype:
            raise InvalidInput(
                self.name, f"datatype {tensor.datatype} does not fit; expected {self.datatype}"
            )
        self.check_values(tensor.data)
        return rows

    def check_values(self, values: Sequence[Any]) -> None:
        """Raise InvalidInput unless all values fit the datatype, the bounds and the codes."""
        check_values(self.name, self.datatype, values, missing=self.missing)
        if self.missing:
            values = _present(values)
            if self.datatype is Datatype.BYTES:
                values = [text for text in values if text]
        if not values:
            return
        if self.max_length is not None and (longest := max(map(len, values))) > self.max_length:
            raise InvalidInput(
                self.name, f"has {longest} characters; {self.max_length} are allowed"
            )
        if self.categories is not None and not set(self.categories) >= set(values):
            wrong = next(v for v in values if v not in self.categories)
            raise InvalidInput(
                self.name,
                f"{short(wrong)} is not one of {', '.join(self.categories)}{self._or_null}",
            )
        if self.codes is not None and not self.codes.keys() >= set(values):
            wrong = next(v for v in values if v not in self.codes)
            codes = ", ".join(map(str, self.codes))
            raise InvalidInput(
                self.name, f"{wrong:g} is not one of the codes {codes}{self._or_null}"
            )
        if self.minimum is not None and min(values) < self.minimum:
            raise InvalidInput(
                self.name, f"{min(values):g} is below the minimum {self.minimum:g}{self._in_unit}"
            )
        if self.maximum is not None and max(values) > self.maximum:
            raise InvalidInput(
                self.name, f"{max(values):g} is above the maximum {self.maximum:g}{self._in_unit}"
            )

    def has_shape(self, shape: Sequence[int], rows: int) -> bool:
        """Return True for ``[rows, *self.shape]``, and for ``[rows, 1]`` of a scalar column."""
        return tuple(shape) in ((rows, *self.shape), (rows, *(self.shape or (1,))))

    def check_output(self, tensor: Tensor, rows: int) -> None:
        """Raise InvalidOutput unless shape, datatype, bounds and codes of the tensor fit.

        Null and NaN pass: a model may have no value for a row.
        """
        shape = list(tensor.shape)
        if not self.has_shape(shape, rows) or len(tensor.data) != element_count(shape):
            raise InvalidOutput(
                self.name,
                f"has the shape {shape} for {rows} rows; {[rows, *self.shape]} is expected",
            )
        if tensor.datatype is not self.datatype:
            raise InvalidOutput(
                self.name, f"is {tensor.datatype}; the signature has {self.datatype}"
            )
        values = _present(tensor.data)
        finite = [v for v in values if v not in (math.inf, -math.inf)]
        try:
            check_values(self.name, self.datatype, finite)
        except InvalidInput as error:
            raise InvalidOutput(self.name, error.problem) from None
        if self.codes is not None and (wrong := [v for v in values if v not in self.codes]):
            raise InvalidOutput(
                self.name,
                f"is {wrong[0]:g}, which is not one of the codes {', '.join(map(str, self.codes))}",
            )
        if self.categories is not None and (others := set(values) - set(self.categories)):
            raise InvalidOutput(
                self.name,
                f"is {short(min(others))}, which is not one of {', '.join(self.categories)}",
            )
        if values and self.datatype.bounds is not None:
            self._check_output_bounds(min(values), max(values))

    def _check_output_bounds(self, low: float, high: float) -> None:
        tolerance = ROUNDING.get(self.datatype, 0)
        minimum, maximum = self.minimum, self.maximum
        if minimum is not None and low < minimum - tolerance * max(1, abs(minimum)):
            raise InvalidOutput(self.name, f"is {low:g}, which is below the minimum {minimum:g}")
        if maximum is not None and high > maximum + tolerance * max(1, abs(maximum)):
            raise InvalidOutput(self.name, f"is {high:g}, which is above the maximum {maximum:g}")

    @property
    def _or_null(self) -> str:
        return " or null" if self.missing else ""

    @property
    def _in_unit(self) -> str:
        return f" {self.unit}" if self.unit else ""


class Signature(BaseModel):
    """The inputs and outputs of a model version, in order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: tuple[Column, ...] = Field(min_length=1)
    outputs: tuple[Column, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for columns in (self.inputs, self.outputs):
            names = [column.name for column in columns]
            if len(set(names)) != len(names):
                raise ValueError(f"names are not unique: {', '.join(names)}")
        lookups = {column.lookup for column in self.inputs} - {None}
        if len(lookups) > 1:
            raise ValueError("inputs are looked up in more than one way")
        if self.lookup and (both := {*self.lookup.names} & {column.name for column in self.inputs}):
            raise ValueError(f"{', '.join(sorted(both))}: is both an input and a lookup key")
        return self

    @classmethod
    def of_metadata(cls, metadata: ModelMetadata) -> Self:
        """Return the signature that a predictor's V2 metadata describes.

        Raises ValidationError when it describes none.
        """
        inputs, outputs = (
            tuple(map(Column.of_metadata, group)) for group in (metadata.inputs, metadata.outputs)
        )
        return cls(inputs=inputs, outputs=outputs)

    @property
    def lookup(self) -> Lookup | None:
        """Lookup of those inputs that can be looked up."""
        return next((column.lookup for column in self.inputs if column.lookup), None)

    def check(self, inputs: Sequence[Tensor]) -> int:
        """Return the number of rows; raise InvalidInput unless the tensors are the inputs."""
        given = {tensor.name: tensor for tensor in inputs}
        self._check_names(given)
        rows = {column.name: column.check(given[column.name]) for column in self.inputs}
        first = self.inputs[0].name
        for name, count in rows.items():
            if count != rows[first]:
                raise InvalidInput(name, f"has {count} rows, but {first} has {rows[first]}")
        if rows[first] == 0:
            raise InvalidInput(first, "has no rows; send at least one")
        return rows[first]

    def check_outputs(self, names: Sequence[str]) -> None:
        """Raise InvalidInput when a requested output does not exist."""
        known = [column.name for column in self.outputs]
        for name in names:
            if name not in known:
                raise InvalidInput(
                    name, f"is not an output of this model; it gives {', '.join(known)}"
                )

    def check_answer(self, outputs: Sequence[Tensor], rows: int) -> None:
        """Raise InvalidOutput unless the tensors are exactly the outputs, with allowed values."""
        given = {tensor.name: tensor for tensor in outputs}
        known = {column.name for column in self.outputs}
        for name in given:
            if name not in known:
                raise InvalidOutput(name, "is not in the signature")
        for column in self.outputs:
            if column.name not in given:
                raise InvalidOutput(column.name, "is missing from the answer")
            column.check_output(given[column.name], rows)

    def _check_names(self, given: Mapping[str, object]) -> None:
        known = [column.name for column in self.inputs]
        for name in given:
            if name not in known:
                raise InvalidInput(
                    name, f"is not an input of this model; it takes {', '.join(known)}"
                )
        for name in known:
            if name not in given:
                alone, several = "is missing; it is the only input", "is missing from the inputs"
                raise InvalidInput(name, several if len(known) > 1 else alone)

    def request(
        self, rows: Sequence[Mapping[str, Any]], request_id: str | None = None
    ) -> InferenceRequest:
        """Return a V2 request for rows with named values, such as ``[{"age": 63, …}]``.

        Raises InvalidInput naming the input (and the row, when there are several).
        """
        if not rows:
            raise InvalidInput("instances", "is empty; send at least one row")
        try:
            data = self._by_column(rows)
        except InvalidInput:
            if len(rows) > 1:
                self._report_row(rows)
            raise
        tensors = [
            Tensor.model_construct(
                name=c.name,
                shape=[len(rows), *c.shape],
                datatype=c.datatype,
                parameters=None,
                data=data[c.name],
            )
            for c in self.inputs
        ]
        return InferenceRequest.model_construct(
            id=request_id, parameters=None, inputs=tensors, outputs=None
        )

    def _by_column(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Return the checked values of each input.

        Checking a whole column takes a tenth of the time of checking each row.
        """
        names = {column.name for column in self.inputs}
        for row in rows:
            if row.keys() != names:
                self._check_names(row)
        data: dict[str, list[Any]] = {}
        for column in self.inputs:
            if column.shape:
                values = [value for row in rows for value in self._values(column, row[column.name])]
            else:
                values = [row[column.name] for row in rows]
            values = list(plain_values(column.name, column.datatype, values))
            column.check_values(values)
            data[column.name] = values
        return data

    def _report_row(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Raise InvalidInput with the number of the first wrong row, found by bisection."""
        start, end = 0, len(rows)
        while end - start > 1:
            middle = (start + end) // 2
            try:
                self._by_column(rows[start:middle])
            except InvalidInput:
                end = middle
            else:
                start = middle
        try:
            self._by_column([rows[start]])
        except InvalidInput as error:
            raise InvalidInput(error.field, f"in row {start}: {error.problem}") from None

    @staticmethod
    def _values(column: Column, value: Any) -> list[Any]:
        """Return the values of one row's vector, flat and not checked."""
        if not isinstance(value, list):
            raise InvalidInput(
                column.name, f"must be a list of {element_count(column.shape)} values"
            )
        values = flatten(column.name, value, column.shape) if len(column.shape) > 1 else value
        if len(values) != element_count(column.shape):
            raise InvalidInput(
                column.name, f"has {len(values)} values; {element_count(column.shape)} are expected"
            )
        return values

    def rows(self, outputs: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Return one object a row, in the order of the request; vectors stay lists."""
        count = outputs[0].shape[0] if outputs else 0
        rows: list[dict[str, Any]] = [{} for _ in range(count)]
        shapes = {column.name: column.shape for column in self.outputs}
        for tensor in outputs:
            # A scalar column may be returned as [rows] or as [rows, 1].
            scalar = shapes.get(tensor.name, tuple(tensor.shape[1:])) == ()
            width = element_count(tensor.shape[1:])
            for index, row in enumerate(rows):
                part = tensor.data[index * width : (index + 1) * width]
                row[tensor.name] = part[0] if scalar else part
        return rows
