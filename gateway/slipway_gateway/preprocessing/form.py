"""Conversion of a multipart form with images to rows; each input is a field of the form."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from slipway_contract.body import check_size
from slipway_contract.errors import InvalidInput
from slipway_contract.signature import Column, Signature
from slipway_contract.values import list_value, text_value
from starlette.datastructures import FormData, UploadFile

from slipway_gateway.errors import UnsupportedType
from slipway_gateway.preprocessing.cells import check_cells
from slipway_gateway.preprocessing.image_decoder import ImageDecoder
from slipway_gateway.threads import run

MOST = 64
"""Maximum number of files, and of fields, in a form."""
KIND = "multipart/form-data"


def is_form(request: Request) -> bool:
    """Return True when the content type is multipart/form-data."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == KIND


async def rows(
    request: Request, signature: Signature, images: ImageDecoder, limit: int
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return the rows of a form and its files; each file is a row.

    Another input is given once for all rows or once for each; its value is a text or a number, or
    a list as JSON. ``limit`` is the maximum number of values of all rows. Raises InvalidInput,
    UnsupportedType, TooManyValues, and the errors of decoding images.
    """
    column = next((column for column in signature.inputs if column.image), None)
    if column is None:
        raise UnsupportedType("this model takes no images: send the body as application/json")
    async with request.form(max_files=MOST, max_fields=MOST) as form:
        files = [
            await part.read() for part in form.getlist(column.name) if isinstance(part, UploadFile)
        ]
        fields = _fields(form, column.name)
    if not files:
        raise InvalidInput(
            column.name, "is missing from the form: send a file in a field of this name"
        )
    check_cells(signature, len(files), limit)
    columns = {column.name: await images.values(column, files)}
    known = {each.name: each for each in signature.inputs}
    values_read = await run(
        sum(len(text) for texts in fields.values() for text in texts), _values, known, fields, limit
    )
    for name, read in values_read.items():
        if len(read) not in (1, len(files)):
            raise InvalidInput(
                name,
                f"is given {len(read)} times for {len(files)} images; give it once, or once for "
                "each",
            )
        columns[name] = read * (len(files) // len(read))
    return [
        {name: values[index] for name, values in columns.items()} for index in range(len(files))
    ], files


def _fields(form: FormData, image: str) -> dict[str, list[str]]:
    """Return the texts of each field. Raises InvalidInput for a file outside of ``image``."""
    fields: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != image:
                raise InvalidInput(name, f"is a file; the input that takes images is {image}")
        else:
            fields.setdefault(name, []).append(value)
    return fields


def _values(
    known: Mapping[str, Column], fields: Mapping[str, list[str]], limit: int
) -> dict[str, list[Any]]:
    """Parse the texts of all fields. Raises InvalidInput, and TooManyValues for their sum."""
    check_size(",".join(text for texts in fields.values() for text in texts).encode(), limit)
    return {
        name: [_value(known.get(name), text) for text in texts] for name, texts in fields.items()
    }


def _value(column: Column | None, text: str) -> Any:
    """Parse a text by its column. Raises InvalidInput."""
    if column is None:
        return text  # the signature's check rejects the name
    if column.shape:
        return list_value(column.name, column.datatype, text)
    return text_value(column.name, column.datatype, text, missing=column.missing)
