#!/usr/bin/env bash
# Measures how much accuracy reconstruction and tuning win back on real models, and TACO against
# PTC: README.md.
#   benchmarks/recovery.sh measure REAL CSV TASKS RECIPES SPARSITIES DRAWS [SHOTS]   appends to CSV
#   benchmarks/recovery.sh table CSV...                                      prints Markdown
# REAL has models/ and images/; lists are separated by ; and without arguments the names are printed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# The launcher finds the JDK and builds; a source-launched program shares its class path.
TACO_MAIN="$here/RecoveryTable.java" exec "$here/../taco" "$@"
