"""HTTP through requests: TLS, proxies, netrc, client certificates, as that library does them.

Chosen by mirror.datastore wherever an address needs one of these; plain http to a host of its own
goes through mirror.wire. requests is imported here and nowhere else, because importing it takes
longer than a whole run without news.
"""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mirror.errors import TransportError

if TYPE_CHECKING:
    import requests

    from formats.mirror_yaml import Config


class SessionAnswer:
    """One answer of requests, with the face of mirror.wire.WireAnswer."""

    def __init__(self, response: "requests.Response") -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = {k.lower(): v for k, v in response.headers.items()}
        length = self.headers.get("content-length", "")
        # A length beside chunked framing means nothing, and urllib3 ignores it too.
        framed = "transfer-encoding" not in self.headers
        self.length = int(length) if framed and length.isascii() and length.isdigit() else None
        self._response = response
        self._raw: Any = response.raw
        self._got = 0

    def readinto(self, buffer: memoryview) -> int:
        """Read what has come of the body, at most `len(buffer)` bytes; 0 at its end.

        Raises TransportError where the connection ends before the body does.
        """
        from mirror.adapter import translated

        with translated():
            if hasattr(self._raw, "read1"):
                data = self._raw.read1(len(buffer), decode_content=False)
            else:
                # urllib3 1.26 fills the whole amount before it returns, so ask for little.
                data = self._raw.read(min(len(buffer), 16384), decode_content=False)
        if not data and self.length is not None and self._got < self.length:
            left = self.length - self._got
            raise TransportError(f"the connection ended {left} bytes before the body did")
        if len(data) > len(buffer):
            raise TransportError("the body's framing is damaged")
        buffer[: len(data)] = data
        self._got += len(data)
        return len(data)

    def close(self) -> None:
        """Give the connection back to its pool, or drop it if the body was not read to its end."""
        if self._got != self.length:
            self._raw.close()
        self._response.close()


class Session:
    """Sessions of requests, one a thread, set up from the configuration."""

    def __init__(self, config: "Config") -> None:
        self._config = config
        self._local = threading.local()

    def get(self, url: str, headers: Mapping[str, str]) -> SessionAnswer:
        """GET without following redirects. Raises TransportError."""
        session = getattr(self._local, "session", None) or self._open()
        bundle = self._config.ca_bundle
        from mirror.adapter import translated

        with translated():
            return SessionAnswer(
                session.get(
                    url,
                    headers=dict(headers),
                    stream=True,
                    allow_redirects=False,
                    timeout=self._config.timeout,
                    # Given with every request: the environment would win over the session's.
                    verify=str(bundle) if bundle else None,
                )
            )

    def _open(self) -> "requests.Session":
        import requests

        from mirror.adapter import bounded_adapter

        session = requests.Session()
        adapter = bounded_adapter(2 * self._config.timeout)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        if self._config.client_cert:
            files = tuple(str(path) for path in self._config.client_cert)
            session.cert = files[0] if len(files) == 1 else (files[0], files[1])
        netrc = self._config.netrc
        if netrc is not True:
            session.auth = _NetrcAuth(None if netrc is False else str(netrc))
        self._local.session = session
        return session


class _NetrcAuth:
    """Credentials from one given netrc file, or from none: requests reads only the usual one.

    Those written into the address itself come first, as requests has it.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path

    def __call__(self, request: Any) -> Any:
        """Add the credentials to a prepared request."""
        from netrc import netrc
        from urllib.parse import urlsplit

        from requests.auth import HTTPBasicAuth
        from requests.utils import get_auth_from_url

        user, password = get_auth_from_url(request.url)
        if not user and self._path:
            known = netrc(self._path).authenticators(urlsplit(request.url).hostname or "")
            user, password = (known[0], known[2] or "") if known else ("", "")
        return HTTPBasicAuth(user, password)(request) if user else request
