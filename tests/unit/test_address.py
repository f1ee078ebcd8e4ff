"""Which addresses and parameters of MAIL and RCPT are taken, and what the client is told about the others."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.address import Bad, fold, parse, parse_entry, parse_recipient
from relay.refusal import Reason, Refusal, refuse, shown
from relay.submission.paths import NO_ADDRESS, Mail, read_mail, read_rcpt

LOCAL_64, LABEL_63 = "l" * 64, "d" * 63
DOMAIN_189 = f"{'d' * 61}.{LABEL_63}.{LABEL_63}"  # 64 + 1 + 189 = 254


@pytest.mark.parametrize(
    "text",
    [
        "anna@example.org",
        "Anna.K+news=1@EXAMPLE.org",
        "x@xn--bcher-kva.example",
        "a/b@c.museum",
        "{a}~'#$&*?^_`|@example.org",
        "root@[192.0.2.1]",
        "root@[IPv6:2001:db8::1]",
        '"anna k"@example.org',
        '"a..b"@example.org',
        "claims@branch_7.example.net",
        "a@_x.b_.example",
        f"{LOCAL_64}@{DOMAIN_189}",
        f"a@{LABEL_63}.org",
    ],
)
def test_addresses_that_are_taken_as_they_stand(text: str) -> None:
    assert parse(text.encode()) == text
    assert read_rcpt(f"TO:<{text}>".encode()) == text
    assert read_mail(f"FROM:<{text}>".encode()) == Mail(text, 0, False)


@pytest.mark.parametrize(("text", "plain"), [('"anna"@example.org', "anna@example.org"), (r'"a\b"@b.c', "ab@b.c")])
def test_needless_quotes_go_so_that_addresses_compare(text: str, plain: str) -> None:
    assert parse(text.encode()) == plain


def test_quotes_that_are_needed_stay() -> None:
    assert parse(rb'"a\" \\b"@example.org') == r'"a\" \\b"@example.org'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no domain"),
        ("root", "no domain"),
        ("root@nas", "not a full name"),
        ("root@nas.", "not a full name"),
        ("@example.org", "source routes"),
        ("@a.example:b@c.example", "source routes"),
        ('""@example.org', "nothing stands before"),
        ("a%b@example.org", "another host"),
        ("b.example!a@example.org", "another host"),
        ("a@b.example@c.example", "another host"),
        ('"a@b.example"@c.example', "another host"),
        ('"a%b"@c.example', "another host"),
        ("a..b@example.org", "needs quotes"),
        (".a@example.org", "needs quotes"),
        ("a.@example.org", "needs quotes"),
        ("a b@example.org", "needs quotes"),
        ("a,b@example.org", "needs quotes"),
        ('a"b"@example.org', "needs quotes"),
        ("a@-b.example", "only letters"),
        ("a@b-.example", "only letters"),
        ("a@b..example", "only letters"),
        ("a@b.exam_ple", "only letters"),
        ('"a>b"@c.example', "angle bracket"),
        ("a@example.org.", "only letters"),
        ("a@192.0.2.1", "only letters"),
        ("a@[192.0.2.256]", "no IP address"),
        ("a@[IPv6:fe80::1%eth0]", "no IP address"),
        ("a@[nas]", "no IP address"),
        ("a\x01b@example.org", "control"),
        ("a\x7f@example.org", "control"),
        ("a@example.org\r\nDATA", "control"),
        ("ä@example.org", "beyond ASCII before the @"),
        ("a@i❤.example", "cannot be read"),
        ("a@bücher.example ", "only letters"),
        ("a@bücher.example.", "only letters"),
        (f"{LOCAL_64}l@example.org", "longer than 64"),
        (f"a@{LABEL_63}d.org", "only letters"),
        (f"{LOCAL_64}@d{DOMAIN_189}", "longer than 254"),
    ],
)
def test_addresses_that_cannot_be_ours(text: str, why: str) -> None:
    bad = parse(text.encode())
    assert isinstance(bad, Bad)
    assert why in bad.why
    assert isinstance(read_mail(f"FROM:<{text or '<'}>".encode()), Refusal)


@pytest.mark.parametrize(
    "text",
    [
        f"reply+{'01J9ZQ7M4T' * 7}@reply.example.net",
        "SRS0=x/y=Tj=example.org=a-long-name-of-somebody-who-wrote-first-and-last@forward.example",
        "da.me..@docomo.example",
        "..a@example.net",
        "user%host.example@gateway.example",
        "host!user@gateway.example",
        '"user@host.example"@gateway.example',
        '"two words"@example.net',
        "a@-odd-.example",
        "a@branch_7.example.net",
        "n@ai",
        "a@[192.0.2.1]",
        "a@xn--i-7iq.example",
        "l" * 244 + "@example.net",
    ],
)
def test_other_peoples_addresses_are_the_providers_to_judge(text: str) -> None:
    assert read_rcpt(f"TO:<{text}>".encode()) == text
    assert parse_recipient(text.encode()) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "root", "@example.net", '""@example.net', "@a.example:b@c.example", "a b@example.net", "a@b@c.example",
        "a<b@example.net", "a>b@example.net", '"a>b"@example.net', '"a<b"@example.net', '"ab@example.net',
        'a"b"@example.net', "a\\@example.net", "a@b\\", "a@b c.example", "a@b>c.example", "a,b@example.net",
        "a(b)@example.net", "a\x00b@example.net", "a\x7f@example.net", "a\tb@example.net", "a@example.net\r\nDATA",
        '"a\r\nb"@example.net', "a@b\u00a0c.example", "a\u202eb@example.net", "a@b..example", "a@example.net..",
        "a@192.0.2.1", "a@[nas]", f"a@{LABEL_63}d.example", "l" * 245 + "@example.net", "a\uff20b@example.net",
    ],
)  # fmt: skip
def test_what_could_end_the_line_or_names_nobody_goes_to_no_provider(text: str) -> None:
    for utf8 in (False, True):
        reply = read_rcpt(f"TO:<{text}>".encode(), smtputf8=utf8)
        assert isinstance(reply, Refusal)
        assert reply.reply[:3] in {"501", "553", "555"}


def test_a_dot_behind_a_recipient_is_taken_off() -> None:
    assert read_rcpt(b"TO:<bob@example.net.>") == "bob@example.net"
    assert read_rcpt("TO:<bob@b\u00fccher.example.>".encode()) == "bob@xn--bcher-kva.example"


@pytest.mark.parametrize(
    "domain",
    [
        "m\u00fcnchen.example",
        "M\u00dcNCHEN.Example",
        "mu\u0308nchen.example",
        "xn--mnchen-3ya.example",
        "m\u00fcnchen\u3002example",
    ],
)
def test_a_domain_is_the_same_however_it_is_written(domain: str) -> None:
    own = "anna@xn--mnchen-3ya.example"
    assert parse(f"anna@{domain}".encode()) == own
    assert read_mail(f"FROM:<anna@{domain}> SIZE=5".encode()) == Mail(own, 5, False)
    assert read_rcpt(f"TO:<anna@{domain}>".encode()) == own
    assert parse_entry(f"*@{domain}") == "*@xn--mnchen-3ya.example"


def test_sharp_s_is_not_ss() -> None:
    assert parse("a@stra\u00dfe.example".encode()) == "a@xn--strae-oqa.example"


@pytest.mark.parametrize("label", ["\u00fc", "\u0e33", "\ufdfa", "\u0644", "a\u0300"])
def test_long_domains_in_other_scripts_take_no_time(label: str) -> None:
    began = time.process_time()
    for sign in (label * 2000, ".".join([label] * 2000), label * 80, ".".join([label * 8] * 10)):
        parse_recipient(f"a@{sign}.example".encode(), utf8=True)
        parse(f"a@{sign}.example".encode(), utf8=True)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "sign", "\uff20\ufe6b\ufe64\uff1c\ufe65\uff0c\uff02\uff05\u203c\uff1b\uff1a\uff08\uff3b\uff3c\u00a8"
)
@pytest.mark.parametrize(
    "form", ["boss{}bank.example@example.org", '"boss {}bank.example"@example.org', "a@b.example{}c.de"]
)
def test_signs_that_others_read_as_specials_are_not_taken(sign: str, form: str) -> None:
    """Mail programs that normalise (NFKC) before they read would find another address."""
    assert isinstance(parse(form.format(sign).encode(), utf8=True), Bad)


def test_utf8_only_where_smtputf8_was_asked_for() -> None:
    text, known = "j\u00fcrgen@b\u00fccher.example", "j\u00fcrgen@xn--bcher-kva.example"
    assert parse(text.encode(), utf8=True) == known
    assert isinstance(parse(text.encode()), Bad)
    assert isinstance(parse(b"j\xfcrgen@example.org", utf8=True), Bad)
    assert isinstance(parse("a\u202eb@example.org".encode(), utf8=True), Bad), "reverses what people read"
    assert isinstance(parse("a@b\u00a0c.example".encode(), utf8=True), Bad)
    mail = read_mail(f"FROM:<{text}> SMTPUTF8".encode(), smtputf8=True)
    assert mail == Mail(known, 0, True)
    for reply in (read_mail(f"FROM:<{text}>".encode(), smtputf8=True), read_rcpt(f"TO:<{text}>".encode())):
        assert isinstance(reply, Refusal)
        assert reply.reply.startswith("553 5.6.7 ")
    assert read_rcpt(f"TO:<{text}>".encode(), smtputf8=True) == known


def test_comparing_folds_ascii_letters_and_nothing_else() -> None:
    assert fold("Anna@EXAMPLE.org") == "anna@example.org"
    assert fold("\u212aarl@example.org") != "karl@example.org", "KELVIN SIGN is not k"
    assert fold("Jürgen@B.c") == "jürgen@b.c"
    assert fold("JÜRGEN@b.c") != fold("jürgen@b.c")


@pytest.mark.parametrize(
    ("argument", "mail"),
    [
        ("FROM:<a@b.c>", Mail("a@b.c", 0, False)),
        ("from:<a@b.c> SIZE=1234", Mail("a@b.c", 1234, False)),
        ("From:<a@b.c> size=5 body=7bit", Mail("a@b.c", 5, False)),
        ("FROM:<a@b.c> SIZE=12 BODY=8BITMIME", Mail("a@b.c", 12, False)),
        ("FROM: <a@b.c>", Mail("a@b.c", 0, False)),
        ("FROM:<>", Mail("", 0, False)),
        ("FROM:<> SIZE=3", Mail("", 3, False)),
        ("FROM:<a@b.c> AUTH=<>", Mail("a@b.c", 0, False)),
        ("FROM:<a@b.c> AUTH=e+3Dmc2@example.com BODY=8BITMIME", Mail("a@b.c", 0, False)),
        ("FROM:<a@b.c> SIZE=99999999999999999999", Mail("a@b.c", 10**20 - 1, False)),
    ],
)
def test_mail_with_the_parameters_that_are_offered(argument: str, mail: Mail) -> None:
    assert read_mail(argument.encode()) == mail


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("", "501 5.5.4"),
        ("a@b.c", "501 5.5.4"),
        ("FROM:", "501 5.5.4"),
        ("FROM:a@b.c", "501 5.5.4"),
        ("FROM:<a@b.c", "501 5.5.4"),
        ("FROM:<a@b.c>SIZE=1", "501 5.5.4"),
        ("TO:<a@b.c>", "501 5.5.4"),
        ("FROM:<a@b.c> SIZE=", "501 5.5.4"),
        ("FROM:<a@b.c> SIZE=-1", "501 5.5.4"),
        ("FROM:<a@b.c> SIZE=²", "501 5.5.4"),
        ("FROM:<a@b.c> SIZE=999999999999999999999", "501 5.5.4"),
        ("FROM:<a@b.c> SIZE=1 SIZE=2", "501 5.5.4"),
        ("FROM:<a@b.c> BODY=BINARYMIME", "501 5.5.4"),
        ("FROM:<a@b.c> AUTH=", "501 5.5.4"),
        ("FROM:<a@b.c> SMTPUTF8", "555 5.5.4"),
        ("FROM:<a@b.c> RET=HDRS", "555 5.5.4 DSN"),
        ("FROM:<a@b.c> ENVID=x", "555 5.5.4 DSN"),
        ("FROM:<a@b.c> COLOUR=red", "555 5.5.4 The parameter COLOUR"),
        ("FROM:<a@b.c> \x1b[2J", "555 5.5.4"),
    ],
)
def test_mail_that_is_refused(argument: str, reply: str) -> None:
    refusal = read_mail(argument.encode())
    assert isinstance(refusal, Refusal)
    assert refusal.reply.startswith(reply)
    assert refusal.reply.isprintable()


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("TO:<>", "501 5.1.3 The recipient is empty"),
        ("TO:a@b.c", "501 5.5.4"),
        ("FROM:<a@b.c>", "501 5.5.4"),
        ("TO:<a@b.c> NOTIFY=NEVER", "555 5.5.4 DSN"),
        ("TO:<a@b.c> ORCPT=rfc822;a@b.c", "555 5.5.4 DSN"),
        ("TO:<a@b.c> SIZE=1", "501 5.5.4"),
        ("TO:<a@b.c> X", "555 5.5.4"),
    ],
)
def test_rcpt_that_is_refused(argument: str, reply: str) -> None:
    refusal = read_rcpt(argument.encode())
    assert isinstance(refusal, Refusal)
    assert refusal.reply.startswith(reply)


def test_rcpt_in_any_letter_case_and_with_a_space() -> None:
    assert read_rcpt(b"to: <a@b.c> ") == "a@b.c"


@pytest.mark.parametrize(
    "sender", ["root", "root@nas", "a%b@c.de", "www data@c.de", "\u00e4@c.de", "ro\x1bot", "r" * 300]
)
def test_rewriting_accounts_may_name_no_address(sender: str) -> None:
    argument = f"FROM:<{sender}> SIZE=7".encode()
    assert read_mail(argument, lenient=True, rewrite=True) == Mail(NO_ADDRESS, 7, False)
    for lenient in (False, True):
        assert isinstance(read_mail(argument, lenient=lenient), Refusal)


@pytest.mark.parametrize("sender", ["Alarm Panel", "NAS (root)", '"Alarm Panel" root@nas', "Alarm Panel, floor 2 "])
def test_nor_need_they_put_brackets_around_it(sender: str) -> None:
    for behind, size in (("", 0), (" SIZE=7 BODY=8BITMIME", 7)):
        argument = f"FROM:{sender}{behind}".encode()
        assert read_mail(argument, lenient=True, rewrite=True) == Mail(NO_ADDRESS, size, False)
        assert isinstance(read_mail(argument, lenient=True), Refusal)


def test_of_two_senders_none_is_meant_where_both_are_replaced() -> None:
    argument = b"FROM: nas@home <root@nas>"
    assert read_mail(argument, lenient=True, rewrite=True) == Mail(NO_ADDRESS, 0, False)
    assert isinstance(read_mail(argument, lenient=True), Refusal)


def test_a_device_that_names_no_sender_wants_to_hear_of_failures_all_the_same() -> None:
    assert read_mail(b"FROM:", lenient=True, rewrite=True) == Mail(NO_ADDRESS, 0, False)
    assert read_mail(b"FROM:<>", lenient=True, rewrite=True) == Mail("", 0, False)
    for lenient in (False, True):
        assert isinstance(read_mail(b"FROM:", lenient=lenient), Refusal)


@pytest.mark.parametrize(
    "path",
    [
        "a@b.c", " a@b.c ", "<a@b.c", "a@b.c>", "<<a@b.c>>", "< a@b.c >", "Admin <a@b.c>",
        '"The Boss" <a@b.c>', "\ta@b.c",
    ],
)  # fmt: skip
def test_devices_may_forget_angle_brackets_or_put_a_name_there(path: str) -> None:
    assert read_rcpt(f"TO:{path}".encode(), lenient=True) == "a@b.c"
    assert read_mail(f"FROM:{path} SIZE=7".encode(), lenient=True) == Mail("a@b.c", 7, False)


@pytest.mark.parametrize(
    "path", ["", "a@b.c d@e.f", "a@b.c <d@e.f>", "<a@b.c> <d@e.f>", "a@b.c,d@e.f", "a@b.c\rX", "<a<b@c.d>"]
)
def test_of_two_recipients_none_is_guessed(path: str) -> None:
    assert isinstance(read_rcpt(f"TO:{path}".encode(), lenient=True), Refusal)


def test_a_refusal_is_one_line_of_ascii_that_fits() -> None:
    refusal = refuse(Reason.ADDRESS, "501 5.1.3 <a\r\nb\x1bé> " + "x" * 600)
    assert refusal.reply.startswith("501 5.1.3 <a??b??> xxx")
    assert len(refusal.reply) == 510
    assert shown("short") == "short"


@given(st.binary(max_size=300))
def test_whatever_is_taken_is_taken_again_unchanged(raw: bytes) -> None:
    for read in (parse, parse_recipient):
        for utf8 in (False, True):
            address = read(raw, utf8=utf8)
            if isinstance(address, str):
                assert address.isprintable()
                assert read(address.encode(), utf8=utf8) == address


_LOCAL = st.from_regex(r"\A[A-Za-z0-9#$&'*+/=?^_`{|}~-]{1,20}(\.[a-z0-9+-]{1,20}){0,2}\Z")
_DOMAIN = st.from_regex(r"\A([a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?\.){1,4}[a-z]{2,9}\Z")


@given(_LOCAL, _DOMAIN)
def test_every_ordinary_address_is_taken(local: str, domain: str) -> None:
    text = f"{local}@{domain}"
    assert read_rcpt(f"TO:<{text}>".encode()) == text
    assert read_mail(f"FROM:<{text}> SIZE=10".encode()) == Mail(text, 10, False)
