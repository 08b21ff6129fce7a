"""
Turn what a user writes as a host into one base URL.

Rule: a host is accepted only if every library reads it in the same way. The error names the wrong part and
never quotes the whole text, which may contain a password.
"""

from __future__ import annotations

import ipaddress
import re

from airflow_provider_scantrust.exceptions import ConfigurationError

# Scantrust: REST API, environments.
PRODUCTION = "https://api.scantrust.com"

_USUAL_PORTS = {"https": 443, "http": 80}
_HIGHEST_PORT = 65_535
_LONGEST_NAME, _LONGEST_LABEL, _LONGEST_PATH = 253, 63, 4_096
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# A scheme with a typo: https:/x, https:x, https///x, http//x, https;//x, ://x, //x.
_NEARLY_A_SCHEME = re.compile(r"(https?)?[:;]?[/\\]+|https?[:;]", re.IGNORECASE)
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*/?")


def read_base_url(host: str | None, schema: str | None, port: int | None, *, allow_plain_http: bool) -> str:
    """
    Return scheme, host, port and path prefix, without a slash at the end.

    :param host: Base URL; without a scheme, https is used; empty means production.
    :param schema: ``http`` or ``https``, if the host has no scheme (as in a connection URI).
    :raises ConfigurationError: This cannot be a base URL; the message says what is wrong.
    """
    host, schema = (host or "").strip(), (schema or "").strip()
    if not host:
        if port or schema:
            raise ConfigurationError(
                "The connection has a port or a schema but no host. Add the host, or empty both for production."
            )
        return PRODUCTION
    if any(not 32 < ord(letter) < 127 for letter in host):
        raise _wrong(
            "contains a space, a control character or a letter outside ASCII; it must be without spaces, "
            "and a name with other letters must be in its xn-- form"
        )
    if port and _is_ipv6(host):
        # From a connection URI, Airflow takes the address without its brackets.
        host = f"[{host}]"
    scheme, rest = _split_scheme(host, schema)
    authority, slash, path = rest.partition("/")
    path = (slash + path).rstrip("/")
    if "@" in authority:
        raise _wrong("contains a user or password; put the token in the password")
    if "?" in host or "#" in host:
        raise _wrong("contains a query or a fragment; it must be without spaces, query or fragment")
    if "\\" in host:
        raise _wrong("contains a backslash; URLs have slashes")
    name, own_port = _split_port(authority)
    if not is_path(path):
        raise _wrong("has a path that libraries read differently; write it without //, . and ..")
    if own_port is not None and port and own_port != port:
        raise ConfigurationError(
            f"The connection names two ports: {own_port} in its host and {port} in its port."
        )
    chosen = port if own_port is None else own_port
    if chosen is not None and not 0 < chosen <= _HIGHEST_PORT:
        raise ConfigurationError(f"The connection's port must be from 1 to {_HIGHEST_PORT}.")
    if scheme == "http" and not allow_plain_http and not is_this_machine(name.strip("[]")):
        raise ConfigurationError(
            f"Plain http to {name} would send the token unencrypted. Use https, or set allow_plain_http "
            "in the connection's extra if you trust the network in between."
        )
    if chosen == _USUAL_PORTS[scheme]:
        # Without the default port, a service has one name: for its portal, in lineage, for shared limits.
        chosen = None
    return f"{scheme}://{name}{f':{chosen}' if chosen else ''}{path}"


def is_this_machine(hostname: str) -> bool:
    """Whether a host name is the loopback of this machine, without a DNS lookup."""
    address = _read_address(hostname)
    return hostname == "localhost" or (address is not None and address.is_loopback)


def is_path(path: str) -> bool:
    return (
        len(path) <= _LONGEST_PATH and bool(_PATH.fullmatch(path)) and not {".", ".."} & set(path.split("/"))
    )


def _split_scheme(host: str, schema: str) -> tuple[str, str]:
    found = _SCHEME.match(host)
    scheme = (found[1] if found else schema or "https").lower()
    rest = host[found.end() :] if found else host
    if scheme not in _USUAL_PORTS:
        raise ConfigurationError("The scheme in the connection's host (or schema) must be https or http.")
    # Also "https" alone: Airflow reads this as the host of a connection URI with an unquoted https:// in it.
    if _NEARLY_A_SCHEME.match(rest) or rest.rstrip("/").lower() in ("", *_USUAL_PORTS):
        raise _wrong(
            "has a scheme that is not written as https:// or http://, or no host name after it. Write it as in "
            f"{PRODUCTION}; in a connection URI, write its colon and slashes as %3A%2F%2F"
        )
    return scheme, rest


def _split_port(authority: str) -> tuple[str, int | None]:
    if authority.startswith("["):
        address, bracket, after = authority[1:].partition("]")
        name, colon, port = f"[{address}]", after[:1], after[1:]
        # No zone id ("%eth0"): some libraries quote the percent sign, and others do not.
        if not bracket or "%" in address or not _is_ipv6(address) or colon not in ("", ":"):
            raise _wrong("is not a URL: brackets must hold an IPv6 address, and only a port may follow them")
    elif _is_ipv6(authority):
        raise _wrong("is an IPv6 address without brackets; write [address]")
    else:
        name, colon, port = authority.partition(":")
        labels = name.removesuffix(".").split(".")
        if len(name) > _LONGEST_NAME or not all(
            len(label) <= _LONGEST_LABEL and _LABEL.fullmatch(label) for label in labels
        ):
            raise _wrong(
                "is neither a host name nor a base URL such as "
                f"{PRODUCTION}: a name consists of letters, digits, hyphens and dots, without spaces"
            )
    if colon and not (port.isdigit() and len(port) <= len(str(_HIGHEST_PORT))):
        raise _wrong("is not a URL: after the colon, its port must be a number from 1 to 65535")
    return name.lower(), int(port) if port else None


def _read_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_ipv6(text: str) -> bool:
    return isinstance(_read_address(text), ipaddress.IPv6Address)


def _wrong(what: str) -> ConfigurationError:
    return ConfigurationError(f"The connection's host {what}.")
