"""certbot as its own process: its command line, its surroundings, its end, and what it leaves on disk.

Everything certbot keeps lies in the volume ``acme``: ``config/`` (accounts, keys, ``live/``), ``work/``, ``logs/``. The
Cloudflare token is in a file of mode 0600 in a temporary folder, for as long as certbot runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import hook
from .pair import Pair, chain_of, names_of
from .settings_acme import AcmeSettings
from .trouble import Output

LINEAGE = "ownpost"
GRACE = 5.0  # seconds between SIGTERM, at which certbot takes its TXT records away, and SIGKILL
LOG_READ = 1024 * 1024  # bytes from the end of the debug log, and of what it prints; the error is there
# certbot's own name would be found on PATH only where scripts were installed there.
COMMAND = (sys.executable, "-c", "import sys; from certbot.main import main; sys.exit(main())")
# What certbot needs of our environment. CLOUDFLARE_EMAIL would make Cloudflare's library drop the token silently.
PASSED_ON = frozenset({"PATH", "PYTHONPATH", "LANG", "TZ", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"})
PASSED_ON |= {"CLOUDFLARE_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}


class TimedOut(Exception):
    """certbot was ended because it took too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certbot:
    """Runs certbot for one certificate. ``timeout`` is in seconds and for a whole run."""

    settings: AcmeSettings
    names: Sequence[str]
    environ: Mapping[str, str]
    timeout: float

    @property
    def home(self) -> Path:
        return self.settings.folder / "certbot"

    @property
    def _note(self) -> Path:
        return self.home / "lineage"

    def lineage(self) -> Pair | None:
        """The pair that certbot holds: the one its deploy hook named last, or the one it has by default."""
        try:
            folder = Path(self._note.read_text("utf-8"))
        except OSError:
            folder = self.home / "config" / "live" / LINEAGE
        try:
            return Pair((folder / "fullchain.pem").read_bytes(), (folder / "privkey.pem").read_bytes())
        except OSError:
            return None

    def is_as_wanted(self) -> bool:
        """Whether the certificate that certbot would renew is the one that the settings ask for."""
        kept, pair = self._renewal_file(), self.lineage()
        try:
            names = names_of(chain_of(pair.fullchain)[0]) if pair else ()
        except ValueError:
            return False
        return set(names) == set(self.names) and all(kept.get(name, "") == value for name, value in self._terms())

    async def run(self) -> tuple[bool, Output]:
        """Obtain or renew, whichever is due; whether certbot ended well, and what it said.

        Raises :class:`TimedOut`, and OSError if its folders cannot be written. Cancelled, it ends certbot first.
        """
        for name in ("config", "work", "logs"):
            (self.home / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home.chmod(0o700)
        with self._credentials() as credentials:
            code, stdout, stderr = await self._execute([*COMMAND, *self._verb(), *self._options(credentials)])
        return code == 0, Output(stdout, stderr, self._log())

    def _verb(self) -> list[str]:
        if self.is_as_wanted():
            return ["renew", "--no-random-sleep-on-renew"]
        names = [word for name in self.names for word in ("-d", name)]
        # Forced, because certbot would keep a certificate that is still valid although another server, another key
        # type or other names are wanted now. Without any certificate the word changes nothing.
        return ["certonly", "--agree-tos", "--force-renewal", "--renew-with-new-domains", *self._email(), *names]

    def _email(self) -> list[str]:
        email = self.settings.email
        return ["--email", email] if email else ["--register-unsafely-without-email"]

    def _options(self, credentials: Path) -> list[str]:
        settings = self.settings
        options = ["--non-interactive", "--cert-name", LINEAGE, "--max-log-backups", "5"]
        for name in ("config", "work", "logs"):
            options += [f"--{name}-dir", str(self.home / name)]
        options += ["--server", settings.server, "--key-type", settings.key_type]
        options += ["--preferred-profile", settings.profile] if settings.profile else []
        options += ["--deploy-hook", shlex.join([sys.executable, "-m", hook.__name__])]
        options += ["--authenticator", settings.authenticator]
        if settings.challenge == "http-01":
            return [*options, "--http-01-port", str(settings.http_port)]
        seconds = str(settings.propagation_seconds)
        return [
            *options,
            "--dns-cloudflare-credentials",
            str(credentials),
            "--dns-cloudflare-propagation-seconds",
            seconds,
        ]

    def _terms(self) -> Iterator[tuple[str, str]]:
        """What certbot's renewal file must say; a difference means that another certificate is wanted now."""
        yield "server", self.settings.server
        yield "key_type", self.settings.key_type
        yield "authenticator", self.settings.authenticator
        yield "preferred_profile", self.settings.profile

    def _renewal_file(self) -> dict[str, str]:
        try:
            text = (self.home / "config" / "renewal" / f"{LINEAGE}.conf").read_text("utf-8")
        except OSError:
            return {}
        pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
        return {name.strip(): value.strip() for name, _, value in pairs}

    @contextlib.contextmanager
    def _credentials(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="ownpost-renewer-") as folder:
            path = Path(folder, "cloudflare.ini")
            path.touch(mode=0o600)
            path.write_text(f"dns_cloudflare_api_token = {self.settings.token}\n", "utf-8")
            yield path

    async def _execute(self, command: Sequence[str]) -> tuple[int, str, str]:
        environ = {name: value for name, value in self.environ.items() if name in PASSED_ON}
        environ |= {"HOME": str(self.home), hook.NOTE: str(self._note)}
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us; and its children end with it
        )
        try:
            async with asyncio.timeout(self.timeout):
                stdout, stderr = await process.communicate()
        except TimeoutError:
            raise TimedOut from None
        finally:
            await _end(process)
        printed = [said[-LOG_READ:].decode("utf-8", "replace") for said in (stdout, stderr)]
        return process.returncode or 0, printed[0], printed[1]

    def _log(self) -> str:
        try:
            with (self.home / "logs" / "letsencrypt.log").open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_READ))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""


async def _end(process: asyncio.subprocess.Process) -> None:
    """No certbot is left behind when this returns."""
    if process.returncode is not None:
        return
    # Not asyncio.timeout: in a task that is being cancelled, CPython before 3.11.3 takes its end for the cancellation
    # (gh-102780), and certbot would live on.
    ended = asyncio.ensure_future(process.wait())
    for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if (await asyncio.wait({ended}, timeout=patience))[0]:
            return
