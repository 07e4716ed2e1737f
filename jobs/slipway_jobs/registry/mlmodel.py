"""Reader of the folder that ``mlflow.FLAVOR.log_model`` writes; nothing in it is trusted.

``MLmodel`` and the input example are parsed here and not by MLflow, which follows paths and imports
modules that ``MLmodel`` names. Nothing of the folder is executed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError
from slipway.errors import Refused, WrongParameter
from slipway.packaging.frames import as_frame
from slipway.packaging.rows import generate_rows
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

DESCRIPTION_FILE = "MLmodel"
DESCRIPTION_LIMIT = 2**20
"""Largest ``MLmodel`` in bytes: the signature of 10,000 columns."""

EXAMPLE_LIMIT = 16 * 2**20
"""Largest input example in bytes."""

EXAMPLE = "input_example"

_WIDEST = 10_000
"""Most columns of a model that is adopted."""

_GENERATED_ROWS = 256
"""Rows on which a model of numbers is compared with its package, without an input example."""

_DATATYPES: Mapping[str, Datatype] = {
    "boolean": Datatype.BOOL,
    "integer": Datatype.INT64,
    "long": Datatype.INT64,
    "float": Datatype.FP32,
    "double": Datatype.FP64,
    "string": Datatype.BYTES,
}
"""Types of columns in a signature of MLflow; the others have no datatype of V2."""


class Tensor(BaseModel):
    """Type of a tensor in MLflow's signature; the first of its dimensions are the rows."""

    dtype: str
    shape: tuple[int, ...]


class Input(BaseModel):
    """A column or a tensor of MLflow's signature."""

    model_config = ConfigDict(populate_by_name=True)

    type: str
    name: str | int | None = None
    required: bool = True
    optional: bool = False
    """What MLflow wrote before ``required``."""
    tensor: Tensor | None = Field(default=None, alias="tensor-spec")

    @property
    def missing(self) -> bool:
        return self.optional or not self.required


class _Signature(BaseModel):
    inputs: Json[list[Input]] | None = None


class _ExampleInfo(BaseModel):
    artifact_path: str
    type: str = ""
    params: str | bool | None = None


class Description(BaseModel):
    """The parts of ``MLmodel`` that are read."""

    flavors: dict[str, dict[str, Any]] = {}
    signature: _Signature | None = None
    saved_input_example_info: _ExampleInfo | None = None

    @property
    def inputs(self) -> list[Input]:
        """The signature's inputs; none where MLflow could not infer types."""
        found = (self.signature and self.signature.inputs) or []
        return [] if any(each.type == "any" for each in found) else found


@dataclass(frozen=True)
class LoggedModel:
    """A downloaded folder with its description; ``limit`` is the largest model file in bytes."""

    folder: Path
    description: Description
    limit: int

    def file(self, name: object, limit: int) -> Path:
        """Return the path of a file in the folder. Raises Refused."""
        if not isinstance(name, str):
            raise Refused("its MLmodel has another value than a text in place of a file's name")
        try:
            path = (self.folder / name).resolve()
            found = path.is_relative_to(self.folder.resolve()) and path.is_file()
        except (OSError, ValueError):  # too long for the file system, or with a null character
            found = False
        if not found:
            raise Refused(f"its MLmodel names the file {name[:100]!r}, which does not exist")
        if (size := path.stat().st_size) > limit:
            raise Refused(f"{path.name} has {size} bytes; at most {limit} are read")
        return path

    @property
    def has_example(self) -> bool:
        return self.description.saved_input_example_info is not None

    def example(self) -> Any:
        """Return the logged input example: a table, or an array, or what its JSON has; or None.

        Raises Refused for a file that cannot be read.
        """
        info = self.description.saved_input_example_info
        if info is None:
            return None
        path = self.file(info.artifact_path, EXAMPLE_LIMIT)
        try:
            content = json.loads(path.read_bytes())
            if info.params:
                content = content["inputs"]
            if info.type == "dataframe":
                return _table(content)
            return _arrays(content) if info.type == "ndarray" else content
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise _unreadable(error) from error

    def table(self) -> tuple[pd.DataFrame, tuple[Column, ...]]:
        """Return rows of the model, and its inputs: as MLflow's signature has them.

        The rows are those of the input example; without one, of numbers, they are generated. Raises
        Refused.
        """
        try:
            frame = _as_table(self.example())
            if frame is None:
                inputs = _columns(_named(self.description.inputs))
                return _generated(inputs), inputs
            specs = _named(self.description.inputs) or _shown(frame)
            inputs = _columns(_with_missing(specs, frame))
            if names := [each.name for each in specs if each.name not in frame.columns]:
                raise Refused(f"its input example has no column {names[0]!r} of its signature")
            columns = {column.name: _typed(frame[column.name], column) for column in inputs}
            return pd.DataFrame(columns), inputs
        except WrongParameter as error:
            raise Refused(str(error)) from error
        except (ValueError, TypeError, OverflowError) as error:
            raise _unreadable(error) from error


def read_folder(folder: Path, limit: int) -> LoggedModel:
    """Return the logged model in the folder. Raises Refused."""
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise Refused("the logged folder is not an MLflow model: it has no MLmodel")
    if path.stat().st_size > DESCRIPTION_LIMIT:
        raise Refused(f"its MLmodel has more than {DESCRIPTION_LIMIT} bytes")
    try:
        content = _Loader(path.read_bytes()).get_single_data()
        description = Description.model_validate(content)
    except (yaml.YAMLError, ValidationError, ValueError, RecursionError) as error:
        raise Refused(
            f"the logged folder is not an MLflow model: MLmodel: {str(error)[:300]}"
        ) from error
    return LoggedModel(folder, description, limit)


class _Loader(yaml.SafeLoader):
    """Refuses aliases, which MLflow does not write: a few of them make a value of any size."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias of YAML; write the value itself")
        return super().compose_node(parent, index)


def _unreadable(error: Exception) -> Refused:
    return Refused(f"its input example cannot be read: {type(error).__name__}: {str(error)[:200]}")


def _table(content: Any) -> pd.DataFrame:
    _check_width(max(map(len, content["data"]), default=0))
    table = pd.DataFrame(content["data"], columns=content.get("columns"))
    if "columns" not in content:
        table.columns = pd.Index([f"x{index}" for index in range(table.shape[1])])
    return table


def _arrays(content: Any) -> Any:
    """Return a numpy array, or one for each name; a null is NaN."""
    if isinstance(content, dict):
        return {name: _arrays(values) for name, values in content.items()}
    array = np.asarray(content)
    if array.dtype.kind != "O":
        return array
    texts = any(isinstance(value, str) for value in array.reshape(-1).tolist())
    return array if texts else array.astype(np.float64)


def _as_table(example: Any) -> pd.DataFrame | None:
    """Return the example as a table. Raises Refused and WrongParameter."""
    if isinstance(example, np.ndarray) and example.ndim == 1:
        example = example.tolist()
    if isinstance(example, str | int | float):
        example = [example]
    if isinstance(example, list) and all(isinstance(each, str) for each in example):
        example = pd.DataFrame({"text": example})
    if isinstance(example, list) and all(isinstance(each, dict) for each in example):
        example = pd.DataFrame(example)
    if isinstance(example, dict):
        example = _of_names(example)
    if example is None:
        return None
    if isinstance(example, np.ndarray) and example.ndim != 2:
        raise Refused(f"its input example has {example.ndim} dimensions; {_TABLE}")
    if not isinstance(example, np.ndarray | pd.DataFrame):
        raise Refused(f"its input example is no table; {_TABLE}")
    _check_width(example.shape[1])
    return as_frame(example, EXAMPLE)


def _check_width(columns: int) -> None:
    if columns > _WIDEST:
        raise Refused(f"it has {columns} columns; at most {_WIDEST} are adopted")


_TABLE = (
    "a table has rows and columns: log it with a data frame as input_example, or export the model "
    "to ONNX and use mlflow.onnx.log_model"
)


def _of_names(example: Mapping[str, Any]) -> pd.DataFrame:
    """Return the table of columns by name, each a value or an array of one value per row."""
    columns = {}
    for name, values in example.items():
        array = np.asarray(values)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim > 1 or (array.ndim == 1 and isinstance(values, list)):
            raise Refused(f"its input example has several values per row in {name!r}; {_TABLE}")
        columns[name] = array.reshape(-1)
    return pd.DataFrame(columns)


def _named(inputs: Sequence[Input]) -> list[Input]:
    """Return the inputs as columns with names; a matrix has the columns x0, x1, ….

    Raises Refused for tensors of more dimensions.
    """
    if len(inputs) == 1 and inputs[0].name is None and inputs[0].type == "string":
        return [inputs[0].model_copy(update={"name": "text"})]
    _check_width(len(inputs))
    found: list[Input] = []
    for each in inputs:
        if each.tensor is None:
            name = each.name if isinstance(each.name, str) else f"x{len(found)}"
            found.append(each.model_copy(update={"name": name}))
            continue
        _, *row = each.tensor.shape or (-1,)
        if each.name is None and len(inputs) == 1 and len(row) == 1 and 0 < row[0] <= _WIDEST:
            names = [f"x{index}" for index in range(row[0])]
        elif each.name is not None and row in ([], [1]):
            names = [str(each.name)]
        else:
            raise Refused(f"its signature has a tensor with {list(each.tensor.shape)}; {_TABLE}")
        kind = _kind(each.tensor.dtype)
        found += [Input(type=kind, name=name, required=each.required) for name in names]
    if len({each.name for each in found}) != len(found):
        raise Refused("its signature has two columns with the same name; rename one of them")
    return found


def _kind(dtype: str) -> str:
    """Return the type of a column with this type of numpy."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        return dtype
    if kind.kind in "iu":
        return "long"
    if kind.kind == "f":
        return "double" if kind.itemsize > 4 else "float"
    return {"b": "boolean", "U": "string", "O": "string"}.get(kind.kind, dtype)


def _shown(frame: pd.DataFrame) -> list[Input]:
    """Return the columns that rows without a signature show."""
    kinds = {"boolean": "boolean", "integer": "long", "floating": "double", "string": "string"}
    found = []
    for name in frame.columns:
        kind = pd.api.types.infer_dtype(frame[name], skipna=True)
        kind = "double" if kind == "empty" else kinds.get(kind, kind)
        if kind == "long" and pd.api.types.is_float_dtype(frame[name].dtype):
            kind = "double"
        found.append(Input(type=kind, name=name))
    return found


def _with_missing(inputs: Sequence[Input], frame: pd.DataFrame) -> list[Input]:
    """Return the inputs; one that is missing in a row of the example may be missing."""
    return [
        each.model_copy(update={"required": False})
        if each.name in frame.columns and frame[each.name].isna().any()
        else each
        for each in inputs
    ]


def _columns(inputs: Sequence[Input]) -> tuple[Column, ...]:
    return tuple(map(_column, inputs))


def _column(given: Input) -> Column:
    if not given.name and given.name != 0:
        raise Refused(
            "a column of its signature or of its input example has an empty name; name it, fit, "
            "and log it again"
        )
    name, datatype = str(given.name), _DATATYPES.get(given.type)
    if datatype is None:
        raise Refused(
            f"column {name!r} of its signature has the type {given.type}, which a request cannot "
            "have; convert it to numbers or texts before the model, fit, and log it again"
        )
    if given.missing and datatype is Datatype.BOOL:
        codes = {0: "false", 1: "true"}
        return Column(name=name, datatype=Datatype.FP32, codes=codes, missing=True)
    if given.missing and datatype is Datatype.INT64:
        datatype = Datatype.FP64
    return Column(name=name, datatype=datatype, missing=given.missing)


def _generated(inputs: tuple[Column, ...]) -> pd.DataFrame:
    if not inputs:
        raise Refused(
            "it has neither a signature nor an input example, so its inputs are unknown; log it "
            "again with input_example=X.head()"
        )
    for column in inputs:
        if column.datatype is Datatype.BYTES:
            raise Refused(
                f"it has no input example, which the text column {column.name!r} needs; log it "
                "again with input_example=X.head()"
            )
    plain = Signature(inputs=inputs, outputs=inputs)
    return pd.DataFrame(generate_rows(plain, _GENERATED_ROWS))


def _typed(series: "pd.Series[Any]", column: Column) -> "pd.Series[Any]":
    """Return the values in the type that the model was fitted on. Raises Refused."""
    if column.datatype.is_float and not column.codes:
        return _floats(series, "float32" if column.datatype is Datatype.FP32 else "float64")
    if column.datatype is Datatype.BYTES and series.isna().all():
        return series.astype("str")
    return series


def _floats(series: "pd.Series[Any]", dtype: Literal["float32", "float64"]) -> "pd.Series[Any]":
    if pd.api.types.is_integer_dtype(series.dtype):
        return series
    try:
        return series.astype(dtype)
    except (TypeError, ValueError) as error:
        raise Refused(
            f"its input example has other values than numbers in {str(series.name)!r}: {error}"
        ) from error
