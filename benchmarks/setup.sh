#!/bin/sh
# Makes .venv here: the libraries compared, what they import, and this repository's lib.
set -e
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip install --quiet --no-deps -r requirements.txt
.venv/bin/python -m pip install --quiet --no-deps -e ..
touch .venv/.ready
