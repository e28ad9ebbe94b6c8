#!/usr/bin/env bash
# Measures accuracy and speed of real specialists with sparse operators, beside dense int8 in ONNX
# Runtime: README.md.
#   benchmarks/speedup.sh measure REAL CSV TASKS RECIPES SPARSITIES DRAWS   appends to CSV
#   benchmarks/speedup.sh table CSV...                                      prints Markdown
# REAL has models/ and images/; lists are separated by ; and without arguments the names are printed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# The launcher finds the JDK and builds; a source-launched program shares its class path.
TACO_MAIN="$here/SpeedupTable.java" exec "$here/../taco" "$@"
