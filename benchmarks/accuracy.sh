#!/usr/bin/env bash
# Measures accuracy, layer-wise errors and latency of compression methods on real models: README.md.
#   benchmarks/accuracy.sh measure REAL CSV TASKS METHODS SPARSITIES DRAWS   appends to CSV
#   benchmarks/accuracy.sh table CSV...                                      prints Markdown
# REAL has models/ and images/; lists are separated by ; and without arguments the names are printed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# The launcher finds the JDK and builds; a source-launched program shares its class path.
TACO_MAIN="$here/AccuracyTable.java" exec "$here/../taco" "$@"
