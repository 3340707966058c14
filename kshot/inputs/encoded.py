"""Base64 and data-URL strings -> the bytes of an image file."""

import binascii
import re

from kshot.contracts.errors import Invalid, UnsupportedMediaType

_DATA_URL = re.compile(r"data:([A-Za-z0-9.+/-]*)((?:;[^;,]*)*),")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")
_MEDIA_TYPES = {"image/png", "image/jpeg", "image/jpg"}


def decode_base64_image(value: object, param: str, expected: str) -> bytes:
    """The file in a base64 string or a base64 data URL.

    Strict: the standard alphabet, padded, without line breaks, so that damage shows here and not in a prediction.
    Raises Invalid (also for every URL: nothing is fetched) and UnsupportedMediaType.
    """
    if not isinstance(value, str):
        raise Invalid(f"expected {expected} as a base64 string or data URL", param=param)
    text = _strip_data_url(value, param)
    if _URL.match(text):
        raise Invalid("nothing is fetched by URL; send the image itself as base64", param=param)
    try:
        data = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        raise Invalid(
            f"not valid base64 (standard alphabet, padded, no line breaks); {expected}", param=param
        ) from None
    if not data:
        raise Invalid(f"empty; expected {expected}", param=param)
    return data


def _strip_data_url(text: str, param: str) -> str:
    match = _DATA_URL.match(text, 0, 256)
    if match is None:
        return text
    if not match.group(2).endswith(";base64"):
        raise Invalid("a data URL must be base64: data:image/png;base64,...", param=param)
    if match.group(1).lower() not in _MEDIA_TYPES:
        raise UnsupportedMediaType("only image/png and image/jpeg are read", param=param)
    return text[match.end() :]
