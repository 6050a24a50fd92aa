"""The lines of a CSV file of people (RFC 4180, UTF-8): bounded before they are parsed. Nobody is looked up."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from tokenbridge.errors import BadRequest

MAX_BYTES: Final = 32 << 20
MAX_ROWS: Final = 200_000
MAX_UPLOAD: Final = 2 << 20
MAX_UPLOAD_ROWS: Final = 10_000
"""What a page takes; `tokenbridge server user import` takes more."""
MAX_CELL: Final = 1024

REQUIRED: Final = "username"
COLUMNS: Final = (REQUIRED, "display_name", "email", "nhs_uid", "upn", "organisation", "groups")
"""What a file may hold, in any order, named in its first line. `groups` are separated by semicolons."""

Row: TypeAlias = tuple[int, Mapping[str, str]]
"""The number of a line and its cells by column."""

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")


def rows_of(data: bytes) -> Sequence[Row]:
    """The lines below the heading. Raises `BadRequest`."""
    return list(_rows(data, MAX_BYTES, MAX_ROWS))


def uploaded_rows_of(data: bytes) -> Sequence[Row]:
    """As `rows_of`, for what comes by a page: 2 MiB and 10,000 people at most."""
    return list(_rows(data, MAX_UPLOAD, MAX_UPLOAD_ROWS))


def _rows(data: bytes, most_bytes: int, most_rows: int) -> Iterator[Row]:
    if len(data) > most_bytes:
        told = f"{most_bytes >> 20} MiB" if most_bytes >> 20 else f"{most_bytes} bytes"
        raise BadRequest(f"The file is larger than {told}.", next_step="Split it.")
    reader = csv.DictReader(io.StringIO(_decoded(data), newline=""), strict=True)
    try:
        _check_heading([name.strip() for name in reader.fieldnames or ()])
        for count, row in enumerate(reader, 1):
            if count > most_rows:
                raise BadRequest(f"The file has more than {most_rows} lines.", next_step="Split it.")
            yield reader.line_num, _cells(row, reader.line_num)
    except csv.Error as err:
        raise BadRequest(f"line {reader.line_num}: {err}", next_step="Save the file as CSV UTF-8.") from err


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        raise BadRequest(f"The file is not UTF-8: line {line}.", next_step="Save it as CSV UTF-8.") from err


def _check_heading(names: list[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if REQUIRED not in names or unknown or len(set(names)) < len(names):
        shown = _CONTROLS.sub("?", ", ".join(name[:40] for name in unknown[:5]))
        wrong = f"unknown columns {shown}" if unknown else f"no column {REQUIRED}, or one stands there twice"
        raise BadRequest(f"The first line names the columns: {wrong}.", next_step=f"Known are: {', '.join(COLUMNS)}.")


def _cells(row: Mapping[str | None, str | list[str] | None], number: int) -> Mapping[str, str]:
    if None in row or None in row.values():
        raise BadRequest(f"line {number} has more or fewer cells than the first line.")
    cells = {str(name).strip(): value.strip() for name, value in row.items() if isinstance(value, str)}
    long = next((name for name, value in cells.items() if len(value) > MAX_CELL), "")
    if long:
        raise BadRequest(f"line {number}: {long} is longer than {MAX_CELL} characters.")
    return cells
