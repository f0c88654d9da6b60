"""`python -m server nginx-conf`: a configuration with which nginx sends the files itself.

nginx asks `serve --accel` for every URL. A list comes back as it is; for a file comes, after all
checks, where it stands below DATA_STORE_ROOT, and nginx sends it from there, in one piece or in
ranges. So our processes answer lists and decide who may have what, and never carry a file.
"""

import argparse
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from mirror.disk import told
from mirror.errors import ConfigError
from server.command import about, show
from server.site import add_site_options, read_site

ACCEL = "/_files"
"""The prefix that `serve --accel` and the configuration must have in common."""

# What neither a quote nor a variable of nginx is made of.
_HARMLESS = re.compile(r"[^\x00-\x1f\x7f\"'\\${};]+")
_HOSTS = re.compile(r"[A-Za-z0-9._:*\[\] -]+")

_CONFIGURATION = """\
# For the http block of nginx: a file in conf.d/ or sites-enabled/.
# It wants, behind it:
#   python -m server serve --dsroot {typed_root} --accel {accel} \\
#       --trusted-proxy 127.0.0.1/32{base_option} …

upstream datastore {{
{servers}
    keepalive 32;
}}

server {{
    listen {listen};
    server_name {server_name};
{tls}
    location "{base}/" {{
        proxy_pass http://datastore;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        # The one address that nginx has seen itself; what the client says of itself is dropped.
        proxy_set_header X-Forwarded-For $remote_addr;
        # Nothing has a body here.
        client_max_body_size 1k;
    }}

    # Counts are for the inside.
    location = /metrics {{
        return 404;
    }}

    # Only by the word of serve: asked for from outside, this is a 404.
    location {accel}/ {{
        internal;
        alias "{root}/";
        sendfile on;
        tcp_nopush on;
        # What serve has named: the md5 sum in place of nginx's own, and how long it may be kept,
        # which holds for the file alone and not for an error in its place.
        etag off;
        add_header ETag $upstream_http_etag;
        add_header Cache-Control $upstream_http_x_cache_control;
        add_header X-Content-Type-Options nosniff;
    }}
}}
"""

_TLS = """\
    ssl_certificate "{cert}";
    ssl_certificate_key "{key}";
"""


def main(argv: list[str]) -> int:
    """Print the configuration; returns the exit status. Raises ConfigError for bad options."""
    options = _options(argv)
    site = read_site(options)
    show(
        configuration(
            site.root,
            upstreams=options.upstream or ["127.0.0.1:8080"],
            listen=options.listen or ("443 ssl" if options.cert else "80"),
            server_name=options.server_name,
            base=options.base_path,
            certificate=_certificate(options),
        ).removesuffix("\n")
    )
    return 0


def _certificate(options: argparse.Namespace) -> tuple[str | None, str | None] | None:
    """--cert and --key, from the root: nginx reads a relative path from elsewhere."""
    if not options.cert and not options.key:
        return None
    with told("--cert, --key, below the current directory"):
        cert, key = (path and os.path.abspath(path) for path in (options.cert, options.key))
    return cert, key


def _options(argv: list[str]) -> argparse.Namespace:
    # Much else would be loaded with it for whoever wants but the name of the prefix.
    from server.serve_options import base_path

    parser = argparse.ArgumentParser(prog="python -m server nginx-conf", description=about(__doc__))
    add_site_options(parser)
    add = parser.add_argument
    add("--upstream", metavar="HOST:PORT", action="append",
        help="where serve listens; repeat it for several (default: 127.0.0.1:8080)")  # fmt: skip
    add("--listen", metavar="PORT",
        help="what nginx's listen directive gets (default: 80, with --cert 443 ssl)")  # fmt: skip
    add("--server-name", metavar="NAME", default="_", help="the host's name (default: any)")
    add("--base-path", metavar="/PATH", type=base_path, default=(), help="as given to serve")
    add("--cert", metavar="FILE", help="the certificate with its chain, for https")
    add("--key", metavar="FILE", help="the certificate's key")
    return parser.parse_args(argv)


def configuration(
    root: Path,
    *,
    upstreams: list[str],
    listen: str,
    server_name: str,
    base: Sequence[str],
    certificate: tuple[str | None, str | None] | None,
) -> str:
    """The text of the configuration. Raises ConfigError for what cannot stand in one.

    `base`: the names of the base path, none for the root.
    """
    problems = [
        f"{option}: cannot be written into a configuration of nginx: {value!r}"
        for option, value, allowed in (
            ("DATA_STORE_ROOT", str(root), _HARMLESS),
            ("--listen", listen, _HOSTS),
            ("--server-name", server_name, _HOSTS),
            *(("--upstream", upstream, _HOSTS) for upstream in upstreams),
            *(("--cert, --key", part, _HARMLESS) for part in certificate or () if part),
        )
        if not allowed.fullmatch(value)
    ]
    if base and f"/{base[0]}" == ACCEL:
        problems.append(f"--base-path: none whose names begin with {base[0]!r}, which is nginx's")
    if certificate and not all(certificate):
        problems.append("--cert and --key go together")
    if problems:
        raise ConfigError(problems)
    path = "".join(f"/{name}" for name in base)
    return _CONFIGURATION.format(
        root=root,
        typed_root=shlex.quote(str(root)),
        accel=ACCEL,
        base=path,
        base_option=f" --base-path {quote(path, safe='/:+')}" if base else "",
        servers="\n".join(f"    server {upstream};" for upstream in upstreams),
        listen=listen,
        server_name=server_name,
        tls=_TLS.format(cert=certificate[0], key=certificate[1]) if certificate else "",
    )
