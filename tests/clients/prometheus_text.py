"""Reads what is at URLs with Prometheus' own parser of its text form, and looks for what a server would drop.

usage: prometheus_text.py URL...       prints the number of samples of each; exits 1 if anything is wrong
"""
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

wrong = []
for url in sys.argv[1:]:
    with urllib.request.urlopen(url, timeout=10) as reply:
        kind, text = reply.headers.get("Content-Type", ""), reply.read().decode()
    if not kind.startswith("text/plain"):
        wrong.append("%s is %s" % (url, kind))
    names, seen = set(), set()
    for family in text_string_to_metric_families(text):
        if family.name in names:
            wrong.append("%s: %s is told of in two places" % (url, family.name))
        names.add(family.name)
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            if key in seen:
                wrong.append("%s: %s comes twice" % (url, key))
            seen.add(key)
    if not seen:
        wrong.append("%s has no samples" % url)
    print(url, len(seen), "samples", flush=True)
print("\n".join(wrong))
sys.exit(1 if wrong else 0)
