"""Lines of a `.env`: what each means to everybody, or the sentence that says why it would be read otherwise."""

from __future__ import annotations

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
