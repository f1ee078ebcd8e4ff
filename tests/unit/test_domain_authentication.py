"""Providers' domain authentication: their documented answers read, their calls as documented, their refusals told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from domain.api import ApiError, NotAllowed, Unreachable
from domain.authentication import SERVICES, Authentication
from domain.authentication.ses import sign
from domain.records import Record
from domain.settings import Key

Route = Callable[[httpx.Request], tuple[int, Any]]


def service(name: str, routes: dict[str, Any], secrets: tuple[str, ...] = ("key",)) -> tuple[Any, list[httpx.Request]]:
    """A service whose API answers by "METHOD path", and the requests it got."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        found = routes.get(f"{request.method} {request.url.path}", (404, {"message": "not found"}))
        status, body = found if isinstance(found, tuple) else (200, found)
        return httpx.Response(status, json=body)

    client = httpx.Client(transport=httpx.MockTransport(handle))
    return SERVICES[name](Key("https://api.example", secrets), client, lambda _: None), seen


BREVO = {
    "domain": "example.org",
    "verified": False,
    "authenticated": False,
    "dns_records": {
        "dkim_record": {"type": "TXT", "value": "k=rsa;p=MIG", "host_name": "mail._domainkey.", "status": False},
        "brevo_code": {"type": "TXT", "value": "brevo-code:abc", "host_name": "", "status": False},
        "dmarc_record": {"type": "TXT", "value": "v=DMARC1; p=none", "host_name": "_dmarc.", "status": False},
    },
}
RESEND = {
    "id": "d1",
    "name": "m.example.org",
    "status": "not_started",
    "records": [
        {
            "record": "SPF",
            "name": "send.m",
            "type": "MX",
            "ttl": "Auto",
            "value": "feedback-smtp.eu-west-1.amazonses.com",
            "priority": 10,
        },
        {
            "record": "SPF",
            "name": "send.m",
            "type": "TXT",
            "ttl": "Auto",
            "value": '"v=spf1 include:amazonses.com ~all"',
        },
        {"record": "DKIM", "name": "resend._domainkey.m", "type": "TXT", "ttl": "Auto", "value": "p=MIG"},
        {"record": "Tracking", "name": "links.m", "type": "CNAME", "ttl": "Auto", "value": "links1.resend-dns.com"},
    ],
}
MAILGUN = {
    "domain": {"name": "example.org", "state": "unverified"},
    "receiving_dns_records": [{"record_type": "MX", "priority": "10", "value": "mxa.mailgun.org", "valid": "unknown"}],
    "sending_dns_records": [
        {
            "record_type": "TXT",
            "name": "example.org",
            "value": "v=spf1 include:mailgun.org ~all",
            "valid": "unknown",
            "cached": [],
        },
        {
            "record_type": "CNAME",
            "name": "pdk1._domainkey.example.org",
            "value": "pdk1.x.dkim1.mailgun.com",
            "valid": "unknown",
        },
        {"record_type": "CNAME", "name": "email.example.org", "value": "mailgun.org", "valid": "unknown"},
    ],
}
POSTMARK = {
    "ID": 36737,
    "Name": "example.org",
    "DKIMVerified": False,
    "DKIMHost": "",
    "DKIMTextValue": "",
    "DKIMPendingHost": "20131031155228pm._domainkey.example.org",
    "DKIMPendingTextValue": "k=rsa; p=MIG",
    "ReturnPathDomain": "pm-bounces.example.org",
    "ReturnPathDomainVerified": False,
    "ReturnPathDomainCNAMEValue": "pm.mtasv.net",
    "SPFHost": "example.org",
    "SPFTextValue": "v=spf1 a mx include:spf.mtasv.net ~all",
}
SES = {
    "IdentityType": "DOMAIN",
    "VerifiedForSendingStatus": False,
    "DkimAttributes": {
        "SigningEnabled": True,
        "Status": "PENDING",
        "Tokens": ["t1", "t2", "t3"],
        "SigningAttributesOrigin": "AWS_SES",
        "SigningHostedZone": "dkim.amazonses.com",
    },
}


def test_brevo() -> None:
    """Its proposal of a DMARC record is left to our own rules."""
    made, seen = service(
        "brevo", {"GET /v3/senders/domains/example.org": BREVO, "PUT /v3/senders/domains/example.org/authenticate": {}}
    )
    found = made.find("example.org")
    assert found == Authentication(
        "example.org",
        "example.org",
        False,
        (
            Record(type="TXT", name="mail._domainkey.example.org", content="k=rsa;p=MIG"),
            Record(type="TXT", name="example.org", content="brevo-code:abc"),
        ),
    )
    assert made.validate(found) == ""
    assert seen[0].headers["api-key"] == "key"


@pytest.mark.parametrize(
    ("domain", "hosts"),
    [
        ("post.example.org", ["brevo1._domainkey.post", "post"]),
        ("a.post.example.org", ["brevo1._domainkey.a.post", "a.post"]),
        ("post.example.co.uk", ["brevo1._domainkey.post", "post"]),
        ("post.example.org", ["brevo1._domainkey.post.example.org.", "post.example.org."]),
        ("post.post.example.org", ["brevo1._domainkey.post.post", "post.post"]),
        ("example.org", ["brevo1._domainkey", "@"]),
        ("example.org", ["brevo1._domainkey.", ""]),
    ],
)
def test_brevo_names_records_relative_to_the_registrable_domain(domain: str, hosts: list[str]) -> None:
    """Its changelog of 9 April 2024: for subdomain.mydomain.com it says ``subdomain``."""
    key, code = (
        {"type": kind, "value": value, "host_name": host, "status": False}
        for kind, value, host in zip(("CNAME", "TXT"), ("b1.example.brevo.com", "brevo-code:abc"), hosts, strict=True)
    )
    answer = {"authenticated": False, "dns_records": {"dkim1Record": key, "brevo_code": code, "dkim_record": None}}
    made, _ = service("brevo", {f"GET /v3/senders/domains/{domain}": answer})
    assert [one.name for one in made.find(domain).records] == [f"brevo1._domainkey.{domain}", domain]


def test_brevos_branded_sub_domain_is_left_out() -> None:
    """It serves links and pictures, and by default wants the name of our mail host."""
    brand = {"type": "CNAME", "value": "mail-example-org.brand.brevosend.com", "host_name": "mail", "status": False}
    answer = {**BREVO, "dns_records": {"brand_record": brand}}
    made, _ = service("brevo", {"GET /v3/senders/domains/example.org": answer})
    assert made.find("example.org").records == ()


def test_brevo_does_not_see_the_records_yet() -> None:
    made, _ = service(
        "brevo", {"PUT /v3/senders/domains/example.org/authenticate": (400, {"code": "x", "message": "DNS not found"})}
    )
    assert "DNS not found" in made.validate(Authentication("example.org", "example.org", False, ()))


def test_resend_names_records_relative_to_the_zone() -> None:
    made, seen = service(
        "resend",
        {
            "GET /domains": {"data": [{"id": "d0", "name": "x"}, {"id": "d1", "name": "m.example.org"}]},
            "GET /domains/d1": RESEND,
        },
    )
    found = made.find("m.example.org")
    assert [(one.type, one.name, one.priority) for one in found.records] == [
        ("MX", "send.m.example.org", 10),
        ("TXT", "send.m.example.org", None),
        ("TXT", "resend._domainkey.m.example.org", None),
    ]
    assert seen[0].headers["user-agent"].startswith("ownpost"), "Resend refuses requests without one"


def test_resend_is_content_with_a_domain_whose_records_for_sending_are_verified() -> None:
    """``partially_verified``: receiving or tracking is not, and nobody asked for them."""
    records = [{**one, "status": "verified" if one["record"] != "Tracking" else "pending"} for one in RESEND["records"]]  # type: ignore[index, union-attr]
    lists = {"GET /domains": {"data": [{"id": "d1", "name": "m.example.org"}]}}
    for state, valid in (("verified", True), ("failed", False)):
        records[0]["status"] = state
        answer = {**RESEND, "status": "partially_verified", "records": records}
        made, _ = service("resend", {**lists, "GET /domains/d1": answer})
        assert made.find("m.example.org").valid is valid


@pytest.mark.parametrize(
    ("name", "path", "url", "region", "told"),
    [
        ("resend", "/domains", "https://api.example", "eu-west-1", "eu-west-1"),
        ("sendgrid", "/v3/whitelabel/domains", "https://api.eu.sendgrid.com", "", "eu"),
    ],
)
def test_a_domain_is_created_in_the_region_that_is_meant(
    name: str, path: str, url: str, region: str, told: str
) -> None:
    """It is fixed for good at Resend, and SendGrid's default is the other one."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201, json={})

    client = httpx.Client(transport=httpx.MockTransport(handle))
    SERVICES[name](Key(url, ("key",), region), client, lambda _: None).create("example.org")
    assert (seen[0].url.path, json.loads(seen[0].content)["region"]) == (path, told)


def test_mailgun_signs_for_a_domain_by_the_one_below_it() -> None:
    """It proposes mg., and a free plan has room for one: a second would be refused. An active one comes first."""
    listed = [
        {"name": "a.b.example.org", "state": "active"},
        {"name": "e.example.org", "state": "unverified"},
        {"name": "mg.example.org", "state": "active"},
        {"name": "notexample.org", "state": "active"},
    ]
    below = json.loads(json.dumps(MAILGUN).replace("example.org", "mg.example.org"))
    routes = {"GET /v4/domains": {"items": listed, "total_count": 4}, "GET /v4/domains/mg.example.org": below}
    made, seen = service(
        "mailgun", {**routes, "PUT /v4/domains/mg.example.org/verify": {"domain": {"state": "active"}}}
    )
    found = made.find("example.org")
    assert (found.domain, found.spf) == ("mg.example.org", ())
    assert [one.name for one in found.records] == ["mg.example.org", "pdk1._domainkey.mg.example.org"]
    assert seen[1].url.params["search"] == "example.org"
    assert made.validate(found) == ""


def test_mailgun_wants_spf_at_the_senders_own_name() -> None:
    made, seen = service("mailgun", {"GET /v4/domains/example.org": MAILGUN, "POST /v4/domains": {}})
    found = made.find("example.org")
    assert found.spf == ("include:mailgun.org",)
    assert [one.name for one in found.records] == ["pdk1._domainkey.example.org"]
    made.create("example.org")
    assert seen[1].content == b"name=example.org&use_automatic_sender_security=true&dkim_key_size=2048"
    assert seen[1].headers["authorization"] == "Basic YXBpOmtleQ=="


def test_postmark_publishes_the_pending_key() -> None:
    made, _ = service(
        "postmark",
        {
            "GET /domains": {"TotalCount": 1, "Domains": [{"Name": "example.org", "ID": 36737}]},
            "GET /domains/36737": POSTMARK,
        },
    )
    found = made.find("example.org")
    assert found.id == "36737"
    assert found.spf == ()
    assert [(one.type, one.name) for one in found.records] == [
        ("TXT", "20131031155228pm._domainkey.example.org"),
        ("CNAME", "pm-bounces.example.org"),
    ]


def test_postmark_creates_and_verifies() -> None:
    done = {
        **POSTMARK,
        "DKIMVerified": True,
        "ReturnPathDomainVerified": True,
        "DKIMPendingHost": "",
        "DKIMHost": "k._domainkey.example.org",
    }
    made, seen = service(
        "postmark",
        {
            "GET /domains": {"Domains": [{"Name": "example.org", "ID": 1}]},
            "GET /domains/1": done,
            "POST /domains": {},
            "PUT /domains/1/verifyDkim": {},
            "PUT /domains/1/verifyReturnPath": {},
        },
    )
    made.create("example.org")
    assert json.loads(seen[0].content) == {"Name": "example.org", "ReturnPathDomain": "pm-bounces.example.org"}
    assert made.validate(Authentication("example.org", "1", False, ())) == ""


def test_ses_publishes_its_three_keys() -> None:
    made, seen = service(
        "ses",
        {"GET /v2/email/identities/example.org": SES, "POST /v2/email/identities": {}},
        ("AKIA", "secret", "eu-central-1"),
    )
    found = made.find("example.org")
    assert (found.records[0].name, found.records[0].content) == (
        "t1._domainkey.example.org",
        "t1.dkim.amazonses.com",
    )
    assert "72 hours" in made.validate(found)
    made.create("example.org")
    assert json.loads(seen[-1].content) == {"EmailIdentity": "example.org"}


def test_ses_with_a_key_of_the_owners_own_names_nothing_to_publish() -> None:
    """Its token is then the selector of the owner's key; a CNAME there would push the key out."""
    own = {"Status": "SUCCESS", "Tokens": ["mine"], "SigningAttributesOrigin": "EXTERNAL"}
    answer = {**SES, "VerifiedForSendingStatus": True, "DkimAttributes": own}
    made, _ = service("ses", {"GET /v2/email/identities/example.org": answer}, ("AKIA", "secret", "eu-central-1"))
    assert made.find("example.org") == Authentication("example.org", "example.org", True, (), selectors=("mine",))


@pytest.mark.parametrize("origin", ["AWS_SES", "AWS_SES_EU_CENTRAL_1"])
def test_ses_publishes_keys_of_its_own_where_they_live(origin: str) -> None:
    dkim = {**SES["DkimAttributes"], "SigningAttributesOrigin": origin, "SigningHostedZone": "x.dkim.amazonses.com"}  # type: ignore[dict-item]
    answer = {**SES, "DkimAttributes": dkim}
    made, _ = service("ses", {"GET /v2/email/identities/example.org": answer}, ("AKIA", "secret", "eu-central-1"))
    assert [one.content for one in made.find("example.org").records] == [
        f"t{n}.x.dkim.amazonses.com" for n in (1, 2, 3)
    ]


def test_ses_requests_are_signed_as_aws_signs_them() -> None:
    """The signature that AWS's own library makes of the same request."""
    headers = sign(
        "POST",
        "email.eu-central-1.amazonaws.com",
        "/v2/email/identities",
        b'{"EmailIdentity": "example.org"}',
        access="AKIDEXAMPLE",
        secret="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        region="eu-central-1",
        now=time.gmtime(1_800_000_000),
    )
    assert headers["X-Amz-Date"] == "20270115T080000Z"
    assert headers["Authorization"].endswith(
        "Signature=34f698152bf0dfbc8e9c49fe311d241bc3ccba365872e1d4727b7c66a195f10e"
    )


@pytest.mark.parametrize("name", ["brevo", "resend", "mailgun", "postmark", "ses", "sendgrid"])
def test_a_domain_that_is_not_there_is_none(name: str) -> None:
    lists = {
        "GET /domains": {"data": [], "Domains": []},
        "GET /v3/whitelabel/domains": [],
        "GET /v4/domains": {"items": []},
    }
    made, _ = service(name, lists, ("a", "b", "eu-west-1"))
    assert made.find("example.org") is None


@pytest.mark.parametrize("name", ["brevo", "resend", "mailgun", "postmark", "ses", "sendgrid"])
@pytest.mark.parametrize(
    ("status", "kind"), [(401, NotAllowed), (403, NotAllowed), (422, ApiError), (500, Unreachable), (302, Unreachable)]
)
def test_a_refusal_is_one_sentence_that_names_what_is_needed(name: str, status: int, kind: type[ApiError]) -> None:
    class Always(dict[str, Any]):
        def get(self, *_: object) -> Any:
            return status, {"message": "their \x1b[31m words"}

    made, _ = service(name, Always(), ("a-secret", "b-secret", "eu-west-1"))
    with pytest.raises(kind) as error:
        made.find("example.org")
    text = str(error.value)
    assert "secret" not in text
    assert "their \\x1b[31m words" in text
    if kind is NotAllowed:
        assert "The permission needed is: " in text


@pytest.mark.parametrize("name", ["brevo", "resend", "mailgun", "postmark", "ses", "sendgrid"])
@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        {"data": [{"name": "example.org", "id": 1}], "Domains": [{"Name": "example.org", "ID": 1}]},
        [{"domain": "example.org"}],
        "x",
    ],
)
def test_an_answer_of_another_form_is_told_and_not_guessed_at(name: str, answer: Any) -> None:
    class Always(dict[str, Any]):
        def get(self, *_: object) -> Any:
            return 200, answer

    made, _ = service(name, Always(), ("a", "b", "eu-west-1"))
    try:
        found = made.find("example.org")
    except Unreachable as error:
        found, told = None, str(error)
    else:
        told = "form that is not documented"
    assert found is None
    assert "form that is not documented" in told


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("brevo", "/v3/senders/domains", {"name": "example.org"}),
        ("resend", "/domains", {"name": "example.org"}),
        ("sendgrid", "/v3/whitelabel/domains", {"domain": "example.org", "automatic_security": True}),
    ],
)
def test_a_domain_is_created_as_documented(name: str, path: str, body: dict[str, Any]) -> None:
    made, seen = service(name, {f"POST {path}": {}})
    made.create("example.org")
    assert json.loads(seen[0].content) == body


@pytest.mark.parametrize(
    ("name", "routes", "content"),
    [
        ("mailgun", {"PUT /v4/domains/example.org/verify": {"domain": {"state": "active"}}}, True),
        ("mailgun", {"PUT /v4/domains/example.org/verify": {"domain": {"state": "unverified"}}}, False),
        (
            "resend",
            {
                "POST /domains/d1/verify": {},
                "GET /domains": {"data": [{"id": "d1", "name": "example.org"}]},
                "GET /domains/d1": {"id": "d1", "status": "verified", "records": []},
            },
            True,
        ),
        ("resend", {"POST /domains/d1/verify": {}, "GET /domains": {"data": []}}, False),
    ],
)
def test_a_provider_is_content_or_says_why_not(name: str, routes: dict[str, Any], content: bool) -> None:
    made, _ = service(name, routes)
    assert (made.validate(Authentication("example.org", "d1", False, ())) == "") is content


def test_a_domain_on_a_later_page_of_a_list() -> None:
    pages = iter(
        [
            {"data": [{"id": "a", "name": "x.example"}], "has_more": True},
            {"data": [{"id": "d1", "name": "example.org"}]},
        ]
    )

    class Paged(dict[str, Any]):
        def get(self, key: str, *_: object) -> Any:
            return next(pages) if key == "GET /domains" else {"id": "d1", "status": "pending", "records": []}

    made, seen = service("resend", Paged())
    assert made.find("example.org").id == "d1"
    assert seen[1].url.params["after"] == "a"
