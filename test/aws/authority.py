"""A certificate authority of a stand-in's own, for as long as it runs."""
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFE = timedelta(days=30)


class Authority:
    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = _pem(self._sign(self.name, self.key.public_key(), x509.BasicConstraints(ca=True, path_length=None)))

    def issue(self, host):
        """Certificate and key of a server with this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        # A common name has at most 64 characters; what counts is the alternative name.
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
        certificate = self._sign(subject, key.public_key(), x509.SubjectAlternativeName([x509.DNSName(host)]))
        return _pem(certificate), key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    def _sign(self, subject, public_key, extension):
        now = datetime.now(timezone.utc)
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(public_key).serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + LIFE).add_extension(extension, critical=True).sign(self.key, hashes.SHA256())
        )


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)
