"""The only place that talks to a network: bounded, retried, checked downloads.

Every request has a deadline for each step and for the whole. What fails in a way that may pass is asked again
with growing waits, or after the time that the server names. Answers have a cap, redirects are refused.
Keys are written ``${NAME}`` in addresses and headers and replaced only when a request is sent: messages and
records never hold them.
"""

import datetime as dt
import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Self

import httpx
import stamina

from calibrator.data.asking import Request
from calibrator.data.tables import shorten
from calibrator.errors import ChangedError, ConfigError, DataError, FetchError

_KEY: Final = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
_LINE: Final = re.compile(r"([0-9a-f]{64}) [ *]([^\s/]{1,200})\n?")
_PASSING: Final = frozenset({408, 418, 425, 429, 500, 502, 503, 504})
_MAX_LINE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, how often and how much.

    Attributes
    ----------
    step : float
        Seconds to connect, and between two pieces of an answer.
    whole : float
        Seconds for one answer.
    attempts : int
        Times that one thing is asked for.
    wait : float
        Seconds before the second attempt; they double.
    max_wait : float
        Longest wait, also if the server names a longer one: then it is an error.
    max_bytes : int
        Largest answer, after any decompression by HTTP.

    Examples
    --------
    >>> Limits().attempts
    5
    """

    step: float = 20.0
    whole: float = 300.0
    attempts: int = 5
    wait: float = 0.5
    max_wait: float = 60.0
    max_bytes: int = 256_000_000


class _PassingError(FetchError):
    """What may pass: a busy server, a lost connection."""

    def __init__(self, text: str, after: float | None = None) -> None:
        super().__init__(text)
        self.after = after


@dataclass
class Transport:
    """A client of one venue, used as a context.

    Attributes
    ----------
    limits : Limits
    headers : mapping of str to str
        Sent with every request; values may hold ``${NAME}``.

    Examples
    --------
    >>> from calibrator.data.payloads import HOUR
    >>> import pandas as pd
    >>> with Transport(Limits(attempts=1)) as venue:
    ...     venue.get(Request("k", "ftp://x/y", pd.Timestamp(0, tz="UTC")))
    Traceback (most recent call last):
    ...
    calibrator.errors.ConfigError: ftp://x/y: must be an http or https address
    """

    limits: Limits = field(default_factory=Limits)
    headers: Mapping[str, str] = field(default_factory=dict)
    _client: httpx.Client | None = field(default=None, init=False, repr=False)

    def __enter__(self) -> Self:
        self._client = httpx.Client(
            timeout=httpx.Timeout(self.limits.step),
            follow_redirects=False,
            headers={"Accept-Encoding": "identity", **{k: expanded(v) for k, v in self.headers.items()}},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()

    def get(self, request: Request) -> bytes | None:
        """Return an answer, checked against its checksum where it has one; None if there is no such thing.

        Raises
        ------
        FetchError
            The venue cannot be reached, is busy for too long, or refuses.
        ChangedError
            The answer does not have its checksum.
        DataError
            An answer that is too large, or a checksum that is none.
        ConfigError
            An address that is no http address, or a key that the environment does not have.
        """
        if request.checksum is None:
            return self._retried(request.url, request.body)
        wanted = self.checksum(request)
        content = None if wanted is None else self._retried(request.url, None)
        if wanted is None or content is None:
            return None
        got = hashlib.sha256(content).hexdigest()
        if got != wanted:
            raise ChangedError(f"{request.url}: SHA-256 must be {wanted}, was {got}: refused")
        return content

    def checksum(self, request: Request) -> str | None:
        """Return the SHA-256 that the venue publishes for an answer; None if the answer is not there.

        Raises
        ------
        DataError
            There is an answer but no checksum, or its line is none.
        """
        place = str(request.checksum)
        line = self._retried(place, None)
        name = request.url.rsplit("/", 1)[-1]
        if line is None:
            if self._exists(request.url):
                raise DataError(f"{request.url}: has no checksum at {place}: refused")
            return None
        found = _LINE.fullmatch(line[:_MAX_LINE].decode("utf-8", "replace"))
        if found is None or found[2] != name:
            raise DataError(
                f"{place}: must be one line with a SHA-256 and {name!r}, was {shorten(line[:80])}"
            )
        return found[1]

    def _exists(self, url: str) -> bool:
        """Ask for the first byte only by closing the answer at its head."""
        try:
            with self._open(url, None) as response:
                return response.status_code == httpx.codes.OK
        except httpx.HTTPError as error:
            raise FetchError(f"{url}: {_spelled(error)}") from error

    def _retried(self, url: str, body: bytes | None) -> bytes | None:
        limits = self.limits
        for attempt in stamina.retry_context(
            on=self._backoff,
            attempts=limits.attempts,
            timeout=None,
            wait_initial=limits.wait,
            wait_max=limits.max_wait,
            wait_jitter=limits.wait,
        ):
            with attempt:
                return self._once(url, body)
        raise AssertionError  # pragma: no cover - stamina returns or raises

    def _backoff(self, error: Exception) -> bool | float:
        if not isinstance(error, _PassingError):
            return False
        if error.after is None:
            return True
        return error.after if error.after <= self.limits.max_wait else False

    def _once(self, url: str, body: bytes | None) -> bytes | None:
        until = time.monotonic() + self.limits.whole
        try:
            with self._open(url, body) as response:
                if response.status_code == httpx.codes.NOT_FOUND:
                    return None
                _refuse_status(url, response)
                return self._read(url, response, until)
        except (httpx.TimeoutException, httpx.TransportError, httpx.DecodingError) as error:
            raise _PassingError(f"{url}: {_spelled(error)}") from error

    @contextmanager
    def _open(self, url: str, body: bytes | None) -> Iterator[httpx.Response]:
        if self._client is None:
            raise RuntimeError("a Transport is used as a context")
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"{url}: must be an http or https address")
        method = "GET" if body is None else "POST"
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            with self._client.stream(method, expanded(url), content=body, headers=headers) as response:
                yield response
        except httpx.InvalidURL as error:
            raise ConfigError(f"{url}: {error}") from error

    def _read(self, url: str, response: httpx.Response, until: float) -> bytes:
        parts, size = list[bytes](), 0
        for part in response.iter_bytes():
            size += len(part)
            if size > self.limits.max_bytes:
                raise DataError(f"{url}: must not exceed {self.limits.max_bytes} bytes")
            if time.monotonic() > until:
                raise _PassingError(f"{url}: took more than {self.limits.whole:g} s")
            parts.append(part)
        return b"".join(parts)


def expanded(text: str) -> str:
    """Replace ``${NAME}`` by the environment's value.

    Raises
    ------
    ConfigError
        The environment has no such name; the value is never shown.

    Examples
    --------
    >>> expanded("https://venue/${NO_SUCH_KEY}/x")
    Traceback (most recent call last):
    ...
    calibrator.errors.ConfigError: the environment must have NO_SUCH_KEY, which an address or header names
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise ConfigError(f"the environment must have {found[1]}, which an address or header names")
        return os.environ[found[1]]

    return _KEY.sub(value, text)


def _refuse_status(url: str, response: httpx.Response) -> None:
    status = response.status_code
    if status == httpx.codes.OK:
        return
    if status in _PASSING:
        raise _PassingError(f"{url}: the venue answers {status}", _retry_after(response))
    text = shorten(next(response.iter_bytes(), b"")[:200].decode("utf-8", "replace"))
    raise FetchError(f"{url}: the venue answers {status}: {text}")


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that the server asks to wait: a number, or until a date by its own clock."""
    text = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
        sent = parsedate_to_datetime(response.headers.get("Date", ""))
        return max((until - sent) / dt.timedelta(seconds=1), 0.0)
    except (ValueError, TypeError):
        return None


def _spelled(error: Exception) -> str:
    """Name an error of the network without the address, which may hold a key."""
    text = type(error).__name__
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()
