"""What has to be put around requests: its errors as ours, and a bound on the head of an answer.

Loaded with the first request that goes through requests.
"""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from typing import Any

import requests
import urllib3.exceptions as low
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from mirror.errors import TransportError
from mirror.wire import MAX_INTERIM


class _Response(HTTPResponse):
    """An answer that may be preceded by a few interim ones, not by any number."""

    heads = 0

    def _read_status(self) -> Any:
        self.heads += 1
        if self.heads > MAX_INTERIM:
            raise HTTPException("the server sends interim answers without end")
        return super()._read_status()  # type: ignore[misc]


def bounded_adapter(seconds: float) -> HTTPAdapter:
    """An adapter whose answers must have their head complete within `seconds`.

    The time-out of requests is for a single read, which a server that drips its head, or sends
    interim answers without end, satisfies for ever (FAULTS N4, N17).
    """

    class Plain(HTTPConnection):
        response_class = _Response

        def getresponse(self) -> Any:
            with _watched(self, seconds):
                return super().getresponse()

    class Tls(HTTPSConnection):
        response_class = _Response

        def getresponse(self) -> Any:
            with _watched(self, seconds):
                return super().getresponse()

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **keys: Any) -> None:
            super().init_poolmanager(*args, **keys)
            pools = {"http": PlainPool, "https": TlsPool}
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, *args: Any, **keys: Any) -> Any:
            manager = super().proxy_manager_for(*args, **keys)
            manager.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}
            return manager

    return Adapter()


@contextmanager
def _watched(connection: HTTPConnection, seconds: float) -> Iterator[None]:
    """Break the connection if the block takes longer than that."""
    opened = connection.sock
    broken = threading.Event()

    def end() -> None:
        broken.set()
        if opened is not None:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception:
        if not broken.is_set():
            raise
    finally:
        timer.cancel()
    if broken.is_set():
        # Even where nothing was raised: a head that ends early looks like a short one.
        raise TimeoutError("the answer's head took too long")


@contextmanager
def translated() -> Iterator[None]:
    """Turn what requests and urllib3 raise into TransportError, at the call and in the body."""
    try:
        yield
    except (requests.exceptions.SSLError, low.SSLError) as error:
        raise TransportError(
            f"TLS: {_innermost(error)}; check the server's certificate, or ca_bundle",
            permanent=True,
        ) from None
    except (requests.RequestException, low.HTTPError, OSError, ValueError) as error:
        late = isinstance(error, requests.Timeout | low.TimeoutError | TimeoutError)
        raise TransportError(_innermost(error), late=late) from None


def _innermost(error: BaseException) -> str:
    """The cause in plain words, without the wrappings and addresses of the libraries."""
    text = str(error)
    seen = 0
    while seen < 6:
        inner = getattr(error, "reason", None)
        inner = inner if isinstance(inner, BaseException) else next(
            (one for one in error.args if isinstance(one, BaseException)), None
        )  # fmt: skip
        if inner is None:
            break
        error, seen = inner, seen + 1
        text = str(error) or text
    text = re.sub(r"^\w+\(host=[^)]*\): ", "", text.rpartition(">: ")[2])
    return text or type(error).__name__
