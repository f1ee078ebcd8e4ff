"""`make plan` where Docker runs: the domain tool in a container of its own."""

from __future__ import annotations

import pytest

from support.project import Project

pytestmark = pytest.mark.timeout(400)


def test_the_domain_tool_runs_as_the_operators_user_and_sees_no_other_services_secret(project: Project) -> None:
    """It says what is missing, may write backups and nothing else, and the relay's key is not in its environment."""
    project.configure(SENDGRID_PASSWORD="SG.secret", CLOUDFLARE_API_TOKEN="renewers", OWNPOST_PROVIDERS="sendgrid")
    project.configure(DOMAIN_ADDRESSES="192.0.2.1", BREVO_PORT="2525")
    plan = project.run("tools/domain", "plan")
    assert plan.returncode == 77, plan.stderr
    assert "ownpost: DOMAIN_CLOUDFLARE_API_TOKEN is missing" in plan.stderr
    inside = ["docker", "compose", "run", "--rm", "--no-TTY", "--entrypoint", "python", "domain", "-c"]
    for folder, code in (("/var/lib/ownpost/zones", 0), ("/etc/ownpost/config", 1), ("/ownpost", 1)):
        assert project.run(*inside, f"open('{folder}/written', 'w')").returncode == code, folder
    assert (project.folder / "var/zones/written").stat().st_uid == project.uid
    environment = project.run(*inside, "import os; print(os.environ)")
    assert environment.returncode == 0
    assert "'DOMAIN_ADDRESSES': '192.0.2.1'" in environment.stdout
    assert "'BREVO_PORT': '2525'" in environment.stdout, "which port `check` is to look at"
    assert "secret" not in environment.stdout
    assert "renewers" not in environment.stdout


def test_a_setting_that_is_no_secret_comes_from_a_file_too(project: Project) -> None:
    project.configure(DOMAIN_TLS_REPORTS="me@example.org", DOMAIN_TLS_REPORTS_FILE="/secrets/reports")
    file = project.folder / "secrets/domain/reports"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("nonsense\n")
    plan = project.run("tools/domain", "plan")
    assert (plan.returncode, plan.stderr.partition(":")[0]) == (78, "DOMAIN_TLS_REPORTS")
    file.write_text("tls@example.org\n")
    plan = project.run("tools/domain", "plan")
    assert plan.returncode == 77, "it goes as far as without the setting"
    assert "DOMAIN_TLS_REPORTS: given together with DOMAIN_TLS_REPORTS_FILE; the file is used." in plan.stderr
