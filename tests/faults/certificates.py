"""Certificates made on the spot, good and bad."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Authority:
    """Signs certificates; `root` is the file that a client trusts."""

    folder: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._made = datetime.datetime.now(datetime.UTC)
        certificate = self._build("authority of the tests", self._key, 10 * DAY).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.root = self.folder / "root.pem"
        self.root.write_bytes(
            certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        )

    def _build(self, name: str, key: ec.EllipticCurvePrivateKey, left: datetime.timedelta) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("authority of the tests"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._made - 20 * DAY)
            .not_valid_after(self._made + left)
        )

    def server(self, host: str, *, left: datetime.timedelta = DAY, trusted: bool = True) -> ssl.SSLContext:
        """What a server of that name speaks TLS with.

        left     until its certificate expires
        trusted  whether this authority signed it, or nobody that anybody knows
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._build(host, key, left).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False
        )
        signed = certificate.sign(self._key if trusted else ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        chain = self.folder / f"{host}-{left.days}-{trusted}.pem"
        chain.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + signed.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context
