import datetime as dt
import ssl

import pytest

from ebpfsentinel.auth.pki import authority, server


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A server's TLS context for 127.0.0.1, and the path of the CA behind it."""
    folder, now = tmp_path_factory.mktemp("pki"), dt.datetime.now(dt.UTC)
    ca = authority("test", now)
    leaf = server("127.0.0.1", ["127.0.0.1", "localhost"], ca, now)
    (folder / "ca.pem").write_bytes(ca.certificate_pem())
    (folder / "leaf.pem").write_bytes(leaf.certificate_pem() + leaf.key_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "leaf.pem")
    return context, str(folder / "ca.pem")
