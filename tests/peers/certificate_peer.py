"""Verifies a certificate with the Python package cryptography, by the strict rules of the web.

Usage: certificate_peer.py AUTHORITY CERTIFICATE NAME...
Without names, the certificate is that of a client. Prints its names, or `ok` for each name of a server.
"""

import ipaddress
import sys

from cryptography import x509
from cryptography.x509 import verification


def read(path):
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificate(file.read())


def name(text):
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


authority, certificate, names = sys.argv[1], sys.argv[2], sys.argv[3:]
store = verification.Store([read(authority)])
policy = verification.PolicyBuilder().store(store).max_chain_depth(0)
leaf = read(certificate)
if not names:
    verified = policy.build_client_verifier().verify(leaf, [])
    for subject in verified.subjects:
        print(subject.value)
for text in names:
    policy.build_server_verifier(name(text)).verify(leaf, [])
    print("ok")
