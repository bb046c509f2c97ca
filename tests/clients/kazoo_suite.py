"""A pytest plugin for kazoo's own suite: certificates of version 3, as TLS libraries other than Java's ask for.

The suite makes its certificates without a version, which means 1.
"""
import OpenSSL.crypto

plain = OpenSSL.crypto.X509.__init__


def version_3(self, *arguments, **named):
    plain(self, *arguments, **named)
    self.set_version(2)


OpenSSL.crypto.X509.__init__ = version_3
