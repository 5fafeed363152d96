"""What schemathesis cannot make from the OpenAPI document: OCSP requests are DER, and a request made at random is never one."""

import schemathesis
from hypothesis import strategies as st


def der(tag: int, *parts: bytes) -> bytes:
    """One element of X.690; nothing here is longer than a length of one octet can say."""
    content = b"".join(parts)
    return bytes([tag, len(content)]) + content


SHA1 = der(0x30, bytes.fromhex("06052b0e03021a"), bytes.fromhex("0500"))


def ocsp_request(name_hash: bytes, key_hash: bytes, serial: int) -> bytes:
    """A request about one certificate (RFC 6960 section 4.1.1)."""
    number = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
    certificate = der(0x30, SHA1, der(0x04, name_hash), der(0x04, key_hash), der(0x02, number))
    return der(0x30, der(0x30, der(0x30, der(0x30, certificate))))


HASH = st.binary(min_size=20, max_size=20)
REQUESTS = st.builds(ocsp_request, HASH, HASH, st.integers(min_value=1, max_value=2**127))

schemathesis.openapi.media_type("application/ocsp-request", REQUESTS | st.binary(max_size=200))
