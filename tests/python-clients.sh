#!/usr/bin/env bash
# Makes target/venv with the Python clients that the end-to-end tests use (tests/requirements.txt). Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=target/venv
stamp=$venv/.clients-$(sha256sum tests/requirements.txt "$0" | sha256sum | cut -c1-12)
[[ -e $stamp ]] && exit 0

echo "tests: installing Python clients into $venv"
[[ -x $venv/bin/pip ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet 'cython==3.0.12' setuptools wheel

# pymesos needs http-parser, whose published C code was generated for Python before 3.11: generate it anew.
if ! "$venv/bin/python" -c 'import http_parser.parser' 2>/dev/null; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    "$venv/bin/pip" download --quiet --no-deps --no-build-isolation --no-binary :all: --dest "$work" http-parser==0.9.0
    tar -C "$work" -xzf "$work"/http*parser-0.9.0.tar.gz
    source=$(echo "$work"/http*parser-0.9.0/)
    "$venv/bin/cython" -3 "$source/http_parser/parser.pyx" 2>/dev/null
    "$venv/bin/pip" install --quiet --no-build-isolation "$source"
fi
"$venv/bin/pip" install --quiet -r tests/requirements.txt
# The DC/OS command line asks for versions of what it needs that no longer build; newer ones serve it.
"$venv/bin/pip" install --quiet --no-deps dcos==0.6.1 dcoscli==0.6.1
touch "$stamp"
