"""How many files and connections this process may have open at once."""

from __future__ import annotations

import resource


class CannotOpenFiles(Exception):
    """The operating system allows too few open files; the text is a sentence that says what to change."""


def raise_limit(wanted: int) -> None:
    """See to it that ``wanted`` descriptors can be open. Raises :class:`CannotOpenFiles`.

    A relay that runs out of them in the middle of the day turns mail away, so it is found out at the start.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise CannotOpenFiles(
            f"RELAY_CONNECTIONS: {wanted} files may have to be open at once, but this system allows {hard};"
            " lower RELAY_CONNECTIONS or raise the limit (ulimit -n, or `ulimits: nofile` in compose.yaml)."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
