"""Files as text, for protocols that carry text alone: data URLs in base64 (RFC 2397)."""

import base64
import binascii

from nexus_ensembles.errors import BadInput
from nexus_ensembles.imaging.decode import MAX_BYTES

_PREFIX = b"data:"
_ENCODING = b";base64"
# Room for the media type in front of the data.
_MAX_HEAD = 256


def is_data_url(data: bytes) -> bool:
    """True if `data` is a data URL; no image file begins as one."""
    return data[: len(_PREFIX)].lower() == _PREFIX


def decode(url: bytes, what: str) -> bytes:
    """Decode the file inside a data URL. The media type is ignored: the file's own header counts.

    Raises BadInput for anything but base64 of at most MAX_BYTES; `what` names the input in its sentence.
    """
    if len(url) > MAX_BYTES // 3 * 4 + 4 + len(_PREFIX) + _MAX_HEAD + 1:  # before anything is copied
        raise BadInput(f"the {what} has {len(url) // 4 * 3} bytes; at most {MAX_BYTES} are accepted.")
    head, comma, body = url[len(_PREFIX) :].partition(b",")
    if not comma or len(head) > _MAX_HEAD or not head.lower().endswith(_ENCODING):
        raise BadInput(f"the {what} is a data URL but not in base64; encode the file in base64.")
    if len(body) > MAX_BYTES // 3 * 4 + 4:
        raise BadInput(f"the {what} has {len(body) // 4 * 3} bytes; at most {MAX_BYTES} are accepted.")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise BadInput(f"the {what} is a data URL whose base64 is damaged.") from error


def encode(data: bytes, media_type: str) -> bytes:
    """Write a file as a data URL."""
    return b"data:%s;base64,%s" % (media_type.encode(), base64.b64encode(data))
