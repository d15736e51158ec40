"""A seal in a document: a digest of all its bytes, by which it is known whether somebody changed it since."""

from __future__ import annotations

import hashlib
import re

#: The property that holds it, and what stands there before it is closed.
SEAL = "fyc:seal"
EMPTY = "0" * 64
_PLACE = re.compile(rb'(<PROPERTY NAME="fyc:seal">)([0-9a-f]{64})(?=</PROPERTY>)')


def sealed(content: bytes) -> bytes:
    """A document with its empty seal closed; one without a seal as it is."""
    digest = hashlib.sha256(content).hexdigest().encode()
    return _PLACE.sub(rb"\g<1>" + digest, content, count=1)


def is_unbroken(content: bytes) -> bool:
    """Whether a document has a seal and no byte of it was changed; one that ELAN saved has another layout."""
    return _PLACE.search(content) is not None and sealed(_PLACE.sub(rb"\g<1>" + EMPTY.encode(), content)) == content
