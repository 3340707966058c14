"""A detector of our own keys, for detect-secrets: its own detectors know those of the large clouds."""

import re

from detect_secrets.plugins.base import RegexBasedDetector


class KshotKeyDetector(RegexBasedDetector):
    """`ksk_` and 256 bits as hexadecimal digits (kshot/storage/access.py)."""

    secret_type = "kshot API key"  # noqa: S105 (a name)  # pragma: allowlist secret
    denylist = (re.compile(r"\bksk_[0-9a-f]{64}\b"),)
