#!/bin/sh
# Install hashed locks into a virtual environment, with uv where it runs and with pip elsewhere.
# Usage: PYTHON=python3 install.sh VENV LOCK... [--editable FOLDER]
set -eu
here=$(dirname "$0")
venv=$1
shift
pip() { "${PYTHON:-python3}" -m pip --python "$venv/bin/python" --disable-pip-version-check "$@"; }

uv=$venv/.uv/bin/uv
if [ ! -x "$uv" ]; then
    # An environment of its own: the locks do not contain uv.
    pip install --quiet --no-deps --require-hashes --target "$venv/.uv" --requirement "$here/uv.txt" || true
fi
# uv does not read pip's settings.
if [ -n "${PIP_INDEX_URL:-}" ]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"; fi
if [ -n "${PIP_CERT:-}" ]; then export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"; fi
install() {
    if "$uv" pip install --quiet --python "$venv/bin/python" --no-deps "$@"; then return; fi
    echo "uv could not install: pip takes over" >&2
    pip install --quiet --no-deps "$@"
}

folder=
locks=
while [ $# -gt 0 ]; do
    case $1 in
    --editable) folder=$2 && shift 2 ;;
    *) locks="$locks --requirement $here/$1.txt" && shift ;;
    esac
done
# shellcheck disable=SC2086 - one word for each lock
if [ -n "$locks" ]; then install --require-hashes $locks; fi
if [ -n "$folder" ]; then install --no-build-isolation --editable "$folder"; fi
