"""A database behind a private authority: https://www.postgresql.org/docs/18/libpq-ssl.html. The pooler speaks the TLS."""

import datetime as dt
from pathlib import Path
from typing import Self

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from psycopg.conninfo import make_conninfo

from agent_service.db.migrate import migrate
from tests.field.roles import owned_database
from tests.support.pgbouncer import pgbouncer
from tests.support.service import running_service

HOST = "db.internal"


class Certificate:
    """Of an authority, or of a host, signed by `by`."""

    def __init__(self, subject: str, by: Self | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        now = dt.datetime.now(dt.UTC)
        host, authority = x509.SubjectAlternativeName([x509.DNSName(subject)]), x509.BasicConstraints(ca=True, path_length=0)
        self.signed = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(by.name if by else self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(host if by else authority, critical=True)
            .sign(by.key if by else self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return self.signed.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def private_pem(self) -> str:
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self.key.private_bytes(*form).decode()


async def test_the_servers_certificate_is_checked_against_the_authority_and_the_host(
    admin_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, stranger = Certificate("authority"), Certificate("stranger")
    server = Certificate(HOST, by=authority)
    ours, theirs, both = (tmp_path / name for name in ("ours", "theirs", "both"))
    ours.write_text(authority.pem, encoding="utf-8")
    theirs.write_text(stranger.pem, encoding="utf-8")
    both.write_text(stranger.pem + authority.pem, encoding="utf-8")
    files = {"client_tls_cert_file": server.pem, "client_tls_key_file": server.private_pem}
    with owned_database(admin_url) as url:
        async with pgbouncer(url, "transaction", files, client_tls_sslmode="require") as pooled:
            plain = make_conninfo(pooled, host=HOST, hostaddr="127.0.0.1")

            def checked(authority: Path, host: str = HOST) -> str:
                return make_conninfo(plain, host=host, sslmode="verify-full", sslrootcert=str(authority))

            assert migrate(checked(ours)) > 0
            assert migrate(checked(both)) == 0, "while an authority is replaced, the file has two"
            for wrong, reason in (
                (checked(theirs), "certificate verify failed"),
                (checked(ours, host="other.internal"), "does not match host name"),
                (make_conninfo(plain, sslmode="disable"), "SSL required"),
            ):
                with pytest.raises(psycopg.OperationalError, match=reason):
                    migrate(wrong)

            # As the chart's postgres.caSecret has it.
            monkeypatch.setenv("PGSSLMODE", "verify-full")
            monkeypatch.setenv("PGSSLROOTCERT", str(theirs))
            with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
                migrate(plain)
            monkeypatch.setenv("PGSSLROOTCERT", str(ours))
            async with running_service(plain) as service, service.client() as client:
                answer = await client.post("/chat", json={"question": "What is a lease?"})
                status = (await client.get(f"{service.ops_url}/status")).json()

    assert answer.json()["outcome"] == "completed"
    assert status["database"]["tls"] is True
