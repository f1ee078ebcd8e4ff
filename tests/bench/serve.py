"""`make bench-serve`: the relay in the foreground for a load generator that speaks neither TLS nor AUTH.

The LAN listener takes mail on 127.0.0.1:2515 and relays it in plain text to 127.0.0.1:2626. Durability is the default:
every message is synced before its 250. Only the limits that a single load generator would run into are raised.
The spool in ``var/bench`` is emptied first.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "var" / "bench"
ACCOUNT = """
[accounts.bench]
password_hash = "$argon2id$v=19$m=19456,t=2,p=1$YmVuY2hiZW5jaGJlbmNo$1AYm8kYXVrXGdmKcTyFgXzjpcUcVB4D4Tj7r2dKnnDk"
senders = ["*@example.org"]
recipients_per_day = "unlimited"
recipients_per_hour = "unlimited"
"""
SETTINGS = {
    "OWNPOST_DOMAINS": "example.org",
    "OWNPOST_BIND": "127.0.0.1",
    "OWNPOST_PROVIDERS": "generic",
    "GENERIC_HOST": "127.0.0.1",
    "GENERIC_PORT": "2626",
    "GENERIC_TLS": "none",
    "RELAY_LISTEN": "127.0.0.1",
    "RELAY_SUBMISSION_PORT": "0",
    "RELAY_SUBMISSIONS_PORT": "0",
    "RELAY_LAN_BIND": "127.0.0.1",
    "RELAY_LAN_PORT": "2515",
    "RELAY_LAN_NETWORKS": "127.0.0.1/32",
    "RELAY_LAN_ACCOUNT": "bench",
    "RELAY_LAN_RECIPIENTS": "*",
    "RELAY_LAN_RECIPIENTS_PER_DAY": "unlimited",
    "RELAY_CONNECTIONS": "2000",
    "RELAY_CONNECTIONS_PER_ADDRESS": "2000",
    "RELAY_REPEAT_MINUTES": "0",  # load generators send one and the same mail over and over, its Message-ID too
    "RELAY_SPOOL_FILESYSTEM": "warn",
}


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    folders = {name: FOLDER / name for name in ("spool", "run", "certs", "config", "captured")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    (folders["config"] / "accounts.toml").write_text(ACCOUNT)
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("OWNPOST_", "RELAY_", "GENERIC_"))}
    paths = {f"RELAY_{name.upper()}": str(folder) for name, folder in folders.items()}
    environ = keep | SETTINGS | paths | {"PYTHONPATH": f"{ROOT}/services/relay/src:{ROOT}/services/common/src"}
    os.execve(sys.executable, [sys.executable, "-m", "relay"], environ)


if __name__ == "__main__":
    main()
