"""A token endpoint over real TLS that keeps state: who asked for which grant, which tokens hold, what it is told to do.

Speaks RFC 6749 (code, refresh), RFC 7636 (PKCE, verified), RFC 8628 (device code) and RFC 7523 (a signed assertion,
verified). :meth:`TokenServer.once` and :meth:`TokenServer.always` put an *act* in place of an answer:
``(status, fields)``, raw bytes, :data:`HANG`, :data:`CLOSE`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import ssl
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import h11
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from support.dual import DUAL
from support.loopback import LoopbackServer


class Deed(Enum):
    """What is no answer."""

    HANG = "hang"
    CLOSE = "close"


HANG, CLOSE = Deed.HANG, Deed.CLOSE
Fields = dict[str, Any]
Act = tuple[int, Fields] | bytes | Deed
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass
class Code:
    """An authorization code that a person's browser was sent back with."""

    challenge: str
    redirect: str
    used: bool = False


@dataclass
class TokenServer(LoopbackServer):
    """Starts on a free loopback port as an async context manager. ``rotate``: each refresh brings a new refresh token
    and ends the one before, which is stricter than Microsoft.
    """

    client_id: str = "client-1"
    client_secret: str = "s3cret-of-the-app"
    rotate: bool = False
    seconds: int = 3600
    interval: int = 1  # that a device is asked to wait between two tries
    asked: list[tuple[str, Fields]] = field(default_factory=list)  # (path, form)

    def __post_init__(self) -> None:
        super().__init__()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1", DUAL).configure_cert(self._context)
        self._acts: deque[Act] = deque()
        self._always: Act | None = None
        self._number = 0
        self.refresh_tokens: set[str] = set()
        self.access_tokens: set[str] = set()
        self.codes: dict[str, Code] = {}
        self.device: str = "pending"  # or granted, denied, expired, slow_down
        self.device_codes: set[str] = set()
        self.account: rsa.RSAPrivateKey | None = None
        self.changed = asyncio.Event()
        self.gate = asyncio.Event()  # cleared: answers wait
        self.gate.set()

    # --- the script
    def once(self, *acts: Act) -> None:
        """The next answers, one each."""
        self._acts.extend(acts)

    def always(self, act: Act | None) -> None:
        """From now on this; None for the usual."""
        self._always = act

    def grant(self) -> str:
        """A refresh token that holds."""
        token = self._new("refresh")
        self.refresh_tokens.add(token)
        return token

    def revoke(self) -> None:
        """No grant holds any more, and no token."""
        self.refresh_tokens.clear()
        self.access_tokens.clear()

    def browser(self, url: str, *, consent: bool = True) -> str:
        """What a person's browser does with the address of the authorize page: where it is sent back to."""
        query = dict(parse_qsl(urlsplit(url).query))
        assert query["client_id"] == self.client_id
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        back = {"state": query["state"]}
        if consent:
            code = self._new("code")
            self.codes[code] = Code(query["code_challenge"], query["redirect_uri"])
            back["code"] = code
        else:
            back["error"] = "access_denied"
        return f"{query['redirect_uri']}?{urlencode(back)}"

    def account_file(self) -> str:
        """The JSON of a service account whose assertions are taken."""
        self.account = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = self.account.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        fields = {"type": "service_account", "client_email": "robot@project.example", "client_id": "117"}
        return json.dumps({**fields, "private_key": pem, "token_uri": f"{self.url}/token"}, indent=1)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def forms(self) -> list[Fields]:
        """The forms that came to the token endpoint."""
        return [form for path, form in self.asked if path == "/token"]

    # --- life
    def listening(self) -> dict[str, Any]:
        """Options of :func:`asyncio.start_server`."""
        return {"ssl": self._context}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the test is over
        except (OSError, h11.ProtocolError):
            pass  # the client left
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        path, body = "", b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                assert event.method == b"POST"
                path = event.target.decode()
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                return
        form = {name: values[0] for name, values in parse_qs(body.decode(), strict_parsing=True).items()}
        self.asked.append((path, form))
        self.changed.set()
        self.changed = asyncio.Event()
        await self.gate.wait()
        act = self._acts.popleft() if self._acts else self._always
        if act is None:
            act = self._device() if path == "/device" else self._token(form)
        await self._do(act, writer, connection)

    async def _do(self, act: Act, writer: asyncio.StreamWriter, connection: h11.Connection) -> None:
        if act is HANG:
            await asyncio.Event().wait()  # until the test is over
        elif isinstance(act, bytes):
            writer.write(act)
        elif isinstance(act, tuple):
            status, fields = act
            body = json.dumps(fields).encode()
            headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                writer.write(connection.send(event) or b"")
        with contextlib.suppress(OSError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    # --- the protocol
    def _token(self, form: Fields) -> tuple[int, Fields]:
        kind = form["grant_type"]
        if kind == JWT_GRANT:
            return self._assertion(form["assertion"])
        if form.get("client_id") != self.client_id or form.get("client_secret", "") != self.client_secret:
            return 401, {"error": "invalid_client", "error_description": "The OAuth client was not found."}
        if kind == "refresh_token":
            return self._refresh(form["refresh_token"])
        if kind == "authorization_code":
            return self._code(form)
        if kind == DEVICE_GRANT:
            return self._poll(form["device_code"])
        return 400, {"error": "unsupported_grant_type"}

    def _refresh(self, token: str) -> tuple[int, Fields]:
        if token not in self.refresh_tokens:
            return 400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
        if not self.rotate:
            return 200, self._access()
        self.refresh_tokens.remove(token)
        return 200, {**self._access(), "refresh_token": self.grant()}

    def _code(self, form: Fields) -> tuple[int, Fields]:
        known = self.codes.get(form["code"])
        digest = hashlib.sha256(form["code_verifier"].encode("ascii")).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if known is None or known.used or known.challenge != challenge or known.redirect != form["redirect_uri"]:
            return 400, {"error": "invalid_grant", "error_description": "Bad code, verifier or redirect."}
        assert 43 <= len(form["code_verifier"]) <= 128  # RFC 7636, 4.1
        known.used = True
        return 200, {**self._access(), "refresh_token": self.grant()}

    def _device(self) -> tuple[int, Fields]:
        code = self._new("device")
        self.device_codes.add(code)
        fields = {"device_code": code, "user_code": "WDJB-MJHT", "verification_uri": f"{self.url}/link"}
        return 200, {**fields, "expires_in": 900, "interval": self.interval}

    def _poll(self, code: str) -> tuple[int, Fields]:
        if code not in self.device_codes:
            return 400, {"error": "invalid_grant", "error_description": "Unknown device code."}
        if self.device == "granted":
            self.device_codes.remove(code)
            return 200, {**self._access(), "refresh_token": self.grant()}
        words = {"pending": "authorization_pending", "denied": "access_denied", "expired": "expired_token"}
        return 400, {"error": words.get(self.device, self.device), "error_description": f"It is {self.device}."}

    def _assertion(self, assertion: str) -> tuple[int, Fields]:
        assert self.account is not None
        signed, _, signature = assertion.rpartition(".")
        header, claims = (json.loads(_decoded(part)) for part in signed.split("."))
        self.account.public_key().verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        assert header == {"alg": "RS256", "typ": "JWT"}
        assert claims["aud"] == f"{self.url}/token"
        assert claims["iss"] == "robot@project.example"
        self.claims: Fields = claims
        return 200, self._access()

    def _access(self) -> Fields:
        token = self._new("access")
        self.access_tokens.add(token)
        return {"access_token": token, "token_type": "Bearer", "expires_in": self.seconds}

    def _new(self, kind: str) -> str:
        self._number += 1
        return f"{kind}-SECRET-{self._number}"


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
