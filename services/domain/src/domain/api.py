"""HTTP with a service's API: retries where they are safe, one sentence for everything that goes wrong.

Reading is tried again after a lost connection, 429 and 5xx. Writing is tried again only when it surely was not carried
out (429, or no connection at all); anything else leaves open what happened, and the next ``apply`` looks and goes on.
Redirects are never followed: a key goes nowhere but to the address that was set.
"""

from __future__ import annotations

import email.utils
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import httpcore
import httpx

from common.connect import connect_now
from common.names import printable

TRIES = 4
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
WAIT = 0.5  # seconds before the second try, doubled each time
LONGEST_WAIT = 60.0  # seconds; a service that asks for more is told off in a sentence instead
MOST = 16 * 1024 * 1024  # bytes of an answer; a page of Cloudflare's longest list has 500 KiB
_SHOWN = 300  # characters of a service's own words
_SECRET = 8  # characters that a part of a header has at least if it is a key; shorter ones are words such as Bearer

USER_AGENT = "ownpost-domain/1"


class ApiError(Exception):
    """A service refused or did not answer; the text is a sentence. ``codes`` are the service's own."""

    def __init__(self, sentence: str, *, status: int = 0, codes: tuple[int, ...] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.codes = codes


class NotAllowed(ApiError):
    """The key is good for something else, or for nothing."""


class Unreachable(ApiError):
    """No answer, or none that can be used; trying again later may help."""


Explain = Callable[[int, Any], "tuple[str, tuple[int, ...]]"]
"""``explain(status, answer)``: a service's own words for a refusal, and its codes."""


@dataclass(slots=True)
class Api:
    """One service. ``headers`` carry the key, so they are not shown; ``sleep`` and ``clock`` are for tests."""

    service: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    explain: Explain
    client: httpx.Client
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    denials: frozenset[int] = frozenset()  # the service's own codes for a lack of rights, whatever the HTTP status

    def get(self, path: str, params: Mapping[str, Any] | None = None, *, need: str = "") -> Any:
        return self.call("GET", path, params=params, need=need)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        need: str = "",
    ) -> Any:
        """The decoded JSON of the answer, or its text where it is no JSON. ``need`` names the permission it takes.

        Raises NotAllowed (401, 403), Unreachable (no usable answer), ApiError (any other refusal).
        """
        request = self.client.build_request(
            method,
            self.url + path,
            params=params,
            json=json,
            content=content,
            headers={"User-Agent": USER_AGENT, "Accept": "application/json", **self.headers, **(headers or {})},
        )
        return self._result(self._send(request), need)

    def _send(self, request: httpx.Request) -> httpx.Response:
        for attempt in range(1, TRIES + 1):
            wait = WAIT * 2 ** (attempt - 1)
            try:
                response = self.client.send(request)
            except httpx.RequestError as error:
                again = request.method == "GET" or isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
                if attempt == TRIES or not again:
                    raise Unreachable(f"{self.service} did not answer ({_why(error)}).") from None
            else:
                if response.status_code != 429 and (response.status_code < 500 or request.method != "GET"):
                    return response
                if attempt == TRIES or (asked := self._asked(response)) > LONGEST_WAIT:
                    return response
                wait = max(wait, asked)
            self.sleep(wait)
        raise AssertionError("unreachable")  # the last try returned or raised

    def _asked(self, response: httpx.Response) -> float:
        """Seconds that a Retry-After asks for: a number or a date (RFC 9110, section 10.2.3)."""
        value = response.headers.get("retry-after", "")
        if value.isascii() and value.isdigit():
            return float(value)
        try:
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - self.clock())
        except (ValueError, OverflowError):  # a year, a zone of many digits
            return 0.0

    def _result(self, response: httpx.Response, need: str) -> Any:
        status = response.status_code
        answer: Any = response.text
        if "json" in response.headers.get("content-type", ""):
            try:
                answer = response.json()
            except (ValueError, RecursionError):
                raise Unreachable(f"{self.service} sent an answer that cannot be read (HTTP {status}).") from None
        words, codes = self.explain(status, answer)
        if response.is_success and not words:
            return answer
        said = f" It said: {printable(self._without_key(words)[:_SHOWN])[:_SHOWN]}" if words else ""
        if status in (401, 403) or self.denials.intersection(codes):
            wanted = f" The permission needed is: {need}." if need else ""
            raise NotAllowed(
                f"{self.service} does not allow this with the key given.{wanted}{said}", status=status, codes=codes
            )
        if status == 429:
            raise Unreachable(f"{self.service} wants fewer requests; try again in some minutes.{said}", status=status)
        kind = Unreachable if status >= 500 or (status < 400 and not response.is_success) else ApiError
        raise kind(f"{self.service} refused (HTTP {status}).{said}", status=status, codes=codes)

    def _without_key(self, text: str) -> str:
        """Some services and proxies repeat a request's headers in their answer."""
        for secret in {part for value in self.headers.values() for part in value.split() if len(part) >= _SECRET}:
            text = text.replace(secret, "[key]")
        return text


def _why(error: httpx.RequestError) -> str:
    return printable(str(error)) or type(error).__name__


class _Backend(httpcore.SyncBackend):
    """Connects as RFC 8305 says. httpcore alone gives every address the whole time limit before it tries the next."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            with connect_now(host, port, timeout or 10.0) as won:
                host = won.getpeername()[0]
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        # Connected twice, for httpcore takes no socket; it checks the certificate for the name all the same.
        return super().connect_tcp(host, port, timeout, local_address, socket_options)


class _Transport(httpx.HTTPTransport):
    def __init__(self) -> None:
        super().__init__()
        self._pool = httpcore.ConnectionPool(
            httpx.create_ssl_context(), keepalive_expiry=5.0, network_backend=_Backend()
        )


def client() -> httpx.Client:
    """The one HTTP client of a run. Behind a proxy, httpx goes its own way."""
    return bounded(httpx.Client(timeout=TIMEOUT, transport=None if urllib.request.getproxies() else _Transport()))


def bounded(client: httpx.Client) -> httpx.Client:
    """``client``, which from now on reads no answer beyond :data:`MOST`, and none that hides more than it shows."""
    client.headers["Accept-Encoding"] = "identity"  # a few KiB that are compressed can be as many GiB
    client.event_hooks = {"response": [_bound]}
    return client


def _bound(response: httpx.Response) -> None:
    """Called with each answer before its body is read."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise httpx.ReadError("its answer is compressed, which nobody asked for", request=response.request)
    response.stream = _Bounded(response)


class _Bounded(httpx.SyncByteStream):
    """The body of ``response``, as long as it is no longer than :data:`MOST`."""

    def __init__(self, response: httpx.Response) -> None:
        self._request, self._whole = response.request, cast("httpx.SyncByteStream", response.stream)

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for piece in self._whole:
            size += len(piece)
            if size > MOST:
                raise httpx.ReadError(f"its answer is larger than {MOST // 2**20} MiB", request=self._request)
            yield piece

    def close(self) -> None:
        self._whole.close()


def words(status: int, answer: Any) -> tuple[str, tuple[int, ...]]:
    """Explains a refusal of most services: the first text found under the usual names."""
    if status < 300:
        return "", ()
    if isinstance(answer, dict):
        for name in ("message", "Message", "error", "detail"):
            if isinstance(answer.get(name), str):
                return answer[name], ()
        errors = answer.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], dict):
            return str(errors[0].get("message", "")), ()
    return (answer if isinstance(answer, str) else ""), ()
