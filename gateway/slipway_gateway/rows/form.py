"""A multipart form as rows: pictures in the field of the input that takes them, other inputs as fields of their own."""

from typing import Any

import orjson
from fastapi import Request
from slipway_contract.errors import InvalidInput
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype
from starlette.datastructures import FormData, UploadFile

from slipway_gateway.errors import UnsupportedType
from slipway_gateway.rows.pictures import Pictures

MOST = 64
"""Files, and fields, of a form."""
KIND = "multipart/form-data"


def is_form(request: Request) -> bool:
    """By its content type."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == KIND


async def rows(request: Request, signature: Signature, pictures: Pictures) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Several files are several rows. Another input is given once for all of them, or once for each; its value is JSON, or text.
    The files are given back beside the rows.

    Raises InvalidInput, UnsupportedType, and what reading pictures raises.
    """
    column = next((column for column in signature.inputs if column.picture), None)
    if column is None:
        raise UnsupportedType("this model takes no pictures: send the body as application/json")
    async with request.form(max_files=MOST, max_fields=MOST) as form:
        files = [await part.read() for part in form.getlist(column.name) if isinstance(part, UploadFile)]
        fields = _fields(form, column.name)
    if not files:
        raise InvalidInput(column.name, "is missing from the form: send a file in a field of this name")
    columns = {column.name: await pictures.values(column, files)}
    known = {each.name: each for each in signature.inputs}
    for name, values in fields.items():
        read = [_value(known.get(name), value) for value in values]
        if len(read) not in (1, len(files)):
            raise InvalidInput(name, f"is given {len(read)} times for {len(files)} pictures; give it once, or once for each")
        columns[name] = read * (len(files) // len(read))
    return [{name: values[index] for name, values in columns.items()} for index in range(len(files))], files


def _fields(form: FormData, picture: str) -> dict[str, list[str]]:
    """Raises InvalidInput when a file is in another field."""
    fields: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != picture:
                raise InvalidInput(name, f"is a file; the input that takes pictures is {picture}")
        else:
            fields.setdefault(name, []).append(value)
    return fields


def _value(column: Column | None, text: str) -> Any:
    if column is not None and column.datatype is Datatype.BYTES:
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text  # the signature says what is wrong with it
