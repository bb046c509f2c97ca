"""What an administrator is answered: PORT AUTHORITY, the file of a certificate.

Prints the status, whether the answer is a server's that runs, and how long TLS is to be used, under TLS and without.
"""

import http.client
import json
import ssl
import sys
import urllib.error
import urllib.request

port, authority = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
for scheme in ("https", "http"):
    try:
        url = f"{scheme}://localhost:{port}/commands/ruok"
        with urllib.request.urlopen(url, context=context, timeout=20) as answer:
            said = json.load(answer)
            print(scheme, answer.status, said["error"], answer.headers["Strict-Transport-Security"])
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        print(scheme, "refused")
