"""What `.env` says is the same to Docker Compose, to our own reader and to the person who wrote it; or it is told."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from domain import dotenv
from support.appliance import ROOT
from support.peers import need

PASSWORD = "GENERIC_PASSWORD"
DOLLAR = (
    f"{PASSWORD} holds a $: Docker Compose would read what follows as a variable's name."
    " Put the value into single quotes, or double the $."
)
BEHIND = f"{PASSWORD} has more behind its closing quote"
HASH = f"{PASSWORD} has a # that Docker Compose takes for part of the value"
# What is written behind the name, and what it means to everybody.
SAME = [
    ("=abc", "abc"),
    ("= abc \t", "abc"),
    (" = abc", "abc"),
    (": abc", "abc"),
    ("=abc\r", "abc"),
    ("='abc'\r", "abc"),
    ('="abc" # ours\r', "abc"),
    ("=abc def # ours", "abc def"),
    ("=abc#def", "abc#def"),
    ("=abc'def\"", "abc'def\""),
    ("=", ""),
    ("=''", ""),
    ("=' abc '", " abc "),
    ("='abc$defghij'", "abc$defghij"),
    ("='a$$b\\n#c\"'", 'a$$b\\n#c"'),
    ("='it\\'s'", "it's"),
    ("=abc$$defghij", "abc$defghij"),
    ('="abc$$def"', "abc$def"),
    ('="abc\\$def"', "abc$def"),
    ('="a\\"b\\\\c"', 'a"b\\c'),
    ('="one\\ntwo"', "one\ntwo"),
    ('="one\ntwo # and\n"', "one\ntwo # and\n"),
    ("='one\r\ntwo'", "one\r\ntwo"),
    ("=abc$", "abc$"),
    ("=abc$-def$1$(id)", "abc$-def$1$(id)"),
    ("=a\\nb`id`", "a\\nb`id`"),
    ("=\u00fc\u00a0", "ü"),
]
# What is written, the sentence, and what Compose makes of it (None: it does not start, or not in every version).
TOLD = [
    ("=abc$defghij", DOLLAR, "abc"),
    ('="abc$defghij"', DOLLAR, "abc"),
    ("=$_abc", DOLLAR, ""),
    ("=abc\\$defghij", DOLLAR, "abc\\"),
    ('="abc\\\\$defghij"', DOLLAR, "abc\\"),
    ("=abc$$$defghij", DOLLAR, "abc$"),
    ("=abc${defghij}", DOLLAR, "abc"),
    ("=abc${def", DOLLAR, None),
    ('="abc"def', BEHIND, "abc"),
    ("='it's'", BEHIND, None),
    ("='abc", f"{PASSWORD} begins with a quote that is never closed", None),
    ("=  # ours", HASH, "# ours"),
    ("=abc\t# ours", HASH, "abc\t# ours"),
    ('="a\\tb"', f"{PASSWORD} holds a backslash", None),
    ("=\u00a0abc", f"{PASSWORD} begins with a space of another kind", "abc"),
    ("", "this is no setting; write NAME=value.", None),
    (" abc", "this is no setting; write NAME=value.", None),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/env", tmp_path / "tools")
    return tmp_path


def write(folder: Path, text: str) -> None:
    (folder / ".env").write_text(text, newline="")


def judged(folder: Path, *name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([folder / "tools/env", *name], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("written", "sentence"), [row[:2] for row in TOLD], ids=[row[0] for row in TOLD])
def test_what_would_be_read_otherwise_has_one_sentence(folder: Path, written: str, sentence: str) -> None:
    write(folder, f"# ours\r\nOWNPOST_DOMAINS=example.org\n{PASSWORD}{written}\n")
    done = judged(folder)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith(f"ownpost: .env, line 3: {sentence}")
    assert done.stderr.count("\n") == 1
    assert "defghij" not in done.stderr


def test_all_of_it_is_told_at_once(folder: Path) -> None:
    write(folder, "A=$b\nC='d\ne' f\n\nG=h\nI=${j}\n")
    lines = judged(folder).stderr.splitlines()
    assert [line.partition(" ")[2][:15] for line in lines] == [".env, line 1: A", ".env, line 2: C", ".env, line 6: I"]


def test_what_is_not_told_of_our_reader_reads(folder: Path) -> None:
    text = "\ufeff" + "".join(f"export N{number}{written}\n" for number, (written, _) in enumerate(SAME))
    text += "# N1=x\n  # N2=x\nTWICE='1'\nTWICE=2"
    write(folder, text)
    assert (judged(folder).returncode, judged(folder).stderr) == (0, "")
    assert dotenv.read(str(folder / ".env")) == {f"N{n}": meant for n, (_, meant) in enumerate(SAME)} | {"TWICE": "2"}


@pytest.mark.parametrize(
    "line", ["OWNPOST_UID=12\r", "export OWNPOST_UID = '12' # ours", 'OWNPOST_UID=1\nOWNPOST_UID="12"']
)
def test_a_tool_reads_one_setting_as_compose_does(folder: Path, line: str) -> None:
    write(folder, f"OWNPOST_UIDS=3\n{line}\n#OWNPOST_UID=4\n")
    assert judged(folder, "OWNPOST_UID").stdout == "12\n"
    assert judged(folder, "OWNPOST_GID").stdout == "\n"


def test_the_example_is_read_alike(folder: Path) -> None:
    shutil.copy(ROOT / ".env.example", folder / ".env")
    assert judged(folder).returncode == 0


def compose(folder: Path, text: str) -> dict[str, str]:
    """What a container is handed of a `.env`, by name and whole."""
    write(folder, text)
    names = sorted({line.partition("=")[0] for line in text.split("\n") if line.startswith("N")})
    services = {"whole": {"image": "x", "env_file": ".env"}, "named": {"image": "x", "environment": names}}
    (folder / "compose.yaml").write_text(json.dumps({"name": "alike", "services": services}))
    done = subprocess.run(
        ["docker", "compose", "config", "--format", "json"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)["services"]
    whole, named = (
        {name: value.replace("$$", "$") for name, value in read[one]["environment"].items()} for one in services
    )
    assert {name: whole[name] for name in names} == named
    return whole


def test_compose_reads_it_alike(folder: Path) -> None:
    """Compose 2.26 and later; it needs no engine for that."""
    need("docker")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("`docker compose version` fails: install Docker's Compose plugin")
    text = "".join(f"N{number}={written[1:]}\n" for number, (written, _) in enumerate(SAME) if written[0] == "=")
    assert compose(folder, "\ufeff" + text) == dotenv.parse(text)
    told = {f"N{number}": row for number, row in enumerate(TOLD) if row[2] is not None}
    made = compose(folder, "".join(f"{name}{written}\n" for name, (written, *_) in told.items()))
    assert made == {name: expected for name, (_, _, expected) in told.items()}
