"""
Requests to a certificate authority: https only, bounded in time and size, signed.

Built on the network class of certbot's ``acme``, which signs, keeps nonces and reads problems. What
it leaves to its user is here: deadlines, a bound on answers, the roots that are trusted, repetition
after several rejected nonces, and when the authority wants to be asked again.
"""

import io
import os
import re
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import requests
from acme import errors, messages
from acme.client import ClientNetwork
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from ..tls.certificate_findings import minute

# A chain has about 10 KiB, an order with 100 names about 30.
MAX_ANSWER = 1 << 20  # bytes

# Let's Encrypt answers within 10 s; certbot waits for 45.
REQUEST_TIMEOUT = 30.0  # seconds

# Each rejects two nonces. A server that rejects every second one passes 999 of 1 000 requests.
_TRIES = 5

# What an authority may ask for; afterwards it is asked again anyway.
MAX_RETRY_AFTER = 7 * 86400.0  # seconds

# In "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: … (_ssl.c:1006)" and the like.
_SYSTEMS_WORDS = re.compile(
    r"\[(?:Errno -?\d+|(?:SSL|X509)[^\]]*)\] (?:certificate verify failed: )?([^'\")(]+)"
)

USER_AGENT = f"gateman/{version('gateman')} acme-python"


class DeadlinePassed(Exception):
    """The time for the whole order is over."""


class AnswerTooBig(Exception):
    """The authority answers with more than :data:`MAX_ANSWER`."""


class Network(ClientNetwork):
    """What sends requests to one authority for one account."""

    def __init__(self, key: JWKEC, *, trusted: str | bool, deadline: float) -> None:
        super().__init__(key, alg=ES256, user_agent=USER_AGENT)
        self._trusted = trusted
        self._deadline = deadline  # monotonic seconds
        # Of the last answer, in seconds since 1970; None if it did not say.
        self.retry_at: float | None = None
        self.server_time: float | None = None
        # URLs in answers must not lead to plain text.
        del self.session.adapters["http://"]
        self.session.max_redirects = 3
        # What is compressed has no bound before it is read.
        self.session.headers["Accept-Encoding"] = "identity"

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Sign and send; a rejected nonce is replaced."""
        for _ in range(_TRIES - 1):
            try:
                return super().post(*args, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return super().post(*args, **kwargs)

    def time_left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise DeadlinePassed
        return left

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        self.retry_at = self.server_time = None
        kwargs["headers"] = {"User-Agent": self.user_agent, **kwargs.get("headers", {})}
        try:
            response = self._send(method, url, *args, **kwargs)
        except requests.exceptions.SSLError:
            raise
        except (requests.ConnectionError, requests.Timeout):
            # The authority may have closed a connection that was kept. If it has seen the request,
            # it rejects its nonce.
            self.session.close()
            response = self._send(method, url, *args, **kwargs)
        with response:
            response.raw = io.BytesIO(self._read(response))
            response.encoding = "utf-8"
            response.content  # noqa: B018 - kept before it is closed
        self.retry_at = read_retry_after(response.headers, time.time())
        self.server_time = _moment(response.headers.get("Date", ""))
        return response

    def _send(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        more = {
            "verify": self._trusted,
            "timeout": min(REQUEST_TIMEOUT, self.time_left()),
            # RFC 8555, 6.2: a signed request is for one URL.
            "allow_redirects": method == "GET",
            "stream": True,
        }
        return self.session.request(method, url, *args, **{**kwargs, **more})

    def _read(self, response: requests.Response) -> bytes:
        parts, size = [], 0
        while part := response.raw.read1(1 << 16, decode_content=False):
            self.time_left()
            size += len(part)
            if size > MAX_ANSWER:
                raise AnswerTooBig
            parts.append(part)
        return b"".join(parts)


def read_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return when an answer asks to be asked again; seconds since 1970."""
    text = headers.get("Retry-After", "").strip()
    moment = now + int(text) if text.isdecimal() and len(text) < 10 else _moment(text)
    return None if moment is None else min(max(moment, now), now + MAX_RETRY_AFTER)


def _moment(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def trusted_roots(cafile: str, environ: Mapping[str, str] = os.environ) -> str | bool:
    """Return the file or folder of the roots that a directory's certificate is checked against."""
    named = cafile or environ.get("SSL_CERT_FILE") or environ.get("REQUESTS_CA_BUNDLE")
    if named:
        return named
    system = ssl.get_default_verify_paths()
    if system.cafile is not None:
        return system.cafile
    with suppress(OSError):
        if system.capath is not None and any(Path(system.capath).iterdir()):
            return system.capath
    return True  # certifi's


def failure_of(error: Exception) -> tuple[str, str]:
    """Say what kind of failure an error of the library, or of requests, is."""
    match error:
        case DeadlinePassed() | requests.Timeout():
            failure = "timedOut", "no answer in time"
        case AnswerTooBig():
            failure = "unintelligible", "an answer of more than a megabyte"
        case requests.exceptions.SSLError():
            failure = "untrusted", _reason(str(error)) or "the TLS handshake failed"
        case requests.exceptions.InvalidSchema():
            failure = "unintelligible", "a URL that is not https"
        case requests.exceptions.ProxyError():
            failure = "unreachable", "the proxy of HTTPS_PROXY does not connect"
        case requests.exceptions.ConnectionError():
            failure = "unreachable", _reason(str(error)) or "no connection"
        case errors.ClientError(args=(requests.Response() as response, *_)):
            failure = "unintelligible", f"status {response.status_code}"
        case OSError() if not isinstance(error, requests.RequestException):
            # The file of roots.
            failure = "untrusted", error.strerror or str(error)
        case _:
            failure = "unintelligible", "an answer that RFC 8555 does not allow"
    return failure


def _reason(text: str) -> str:
    """Return the system's words in an error of requests."""
    found = _SYSTEMS_WORDS.search(text)
    if found is None:
        return "its name cannot be resolved" if "NameResolution" in text else ""
    reason = found[1].strip()
    # OpenSSL 3.6 says "is not yet valid or the system clock is incorrect".
    if "not yet valid" in reason or "has expired" in reason:
        reason += f"; this machine's clock says {minute(time.time())}"
    return reason
