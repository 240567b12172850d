"""The model named in a multipart form (RFC 7578), and where its bytes lie. The rest of a form is not read.

A form is read by parts, from boundary to boundary, so that nothing inside an uploaded file can pass for a field. What readers might
read differently (two models, an encoded name, a folded header) is refused.
"""

import re
from typing import Final, NamedTuple

from headway.kernel.errors import BadRequest

_BOUNDARY: Final = re.compile(
    rb"""multipart/form-data;(?:[^;]*;)*? *boundary=(?:"([^"\\\r\n]{1,70})"|([A-Za-z0-9'()+_,./:=?-]{1,70}))"""
)
_DISPOSITION: Final = re.compile(rb"content-disposition *: *form-data *(;[^\r\n]*)?", re.IGNORECASE)
_NAME: Final = re.compile(rb"""; *name *= *(?:"([^"\\]*)"|([^";\\ ]+)) *(?=;|$)""", re.IGNORECASE)
PARTS_MAX: Final = 256
PART_HEAD_BYTES_MAX: Final = 4 * 1024
MODEL_BYTES_MAX: Final = 200


class FormModel(NamedTuple):
    name: str
    start: int
    """Of its bytes in the body; 0 with ``end`` 0 where the form names none."""
    end: int


def form_model(body: bytes, content_type: bytes) -> FormModel:
    """The one field ``model``. BadRequest for a form that cannot be read, or not in one way only."""
    found = _BOUNDARY.match(content_type)
    if found is None:
        raise BadRequest("multipart/form-data needs a boundary of plain characters", param="content-type")
    mark = b"--" + (found[1] or found[2])
    if not body.startswith(mark):
        raise BadRequest("the form does not begin with its boundary")
    model = FormModel("", 0, 0)
    at, parts = len(mark), 0
    while body[at : at + 2] != b"--":
        parts += 1
        end = body.find(b"\r\n" + mark, at)
        if end < 0 or parts > PARTS_MAX:
            raise BadRequest("the form does not end with its boundary" if end < 0 else f"the form has more than {PARTS_MAX} parts")
        start = body.find(b"\r\n\r\n", at, min(end + 2, at + PART_HEAD_BYTES_MAX))
        if body[at : at + 2] != b"\r\n" or start < 0:
            raise BadRequest("a part of the form has no head that can be read")
        if _field(body[at + 2 : start]) == b"model":
            if model.end:
                raise BadRequest("the form names its model twice; send it once", param="model")
            model = FormModel(_text(body[start + 4 : end]), start + 4, end)
        at = end + 2 + len(mark)
    return model


def _field(head: bytes) -> bytes:
    """The name of a part, from its Content-Disposition."""
    lines = head.split(b"\r\n")
    if any(line[:1] in (b" ", b"\t") for line in lines) or b"\n" in head.replace(b"\r\n", b""):
        raise BadRequest("a part of the form has a folded or broken header")
    told = [line for line in lines if line[:19].lower() == b"content-disposition"]
    disposition = _DISPOSITION.fullmatch(told[0]) if len(told) == 1 else None
    rest = disposition[1] if disposition else None
    names = _NAME.findall(rest) if rest else []
    if len(names) != 1 or re.search(rb"; *name\*", rest or b"", re.IGNORECASE):
        raise BadRequest("each part of the form needs one Content-Disposition with one plain name")
    return bytes(names[0][0] or names[0][1])


def _text(value: bytes) -> str:
    if not 0 < len(value) <= MODEL_BYTES_MAX:
        raise BadRequest(f"the form's model takes 1 to {MODEL_BYTES_MAX} bytes", param="model")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadRequest("the form's model is not UTF-8", param="model") from None
