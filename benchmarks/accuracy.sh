#!/usr/bin/env bash
# Measures accuracy and layer-wise errors of the solvers on real models: see README.md here.
#   benchmarks/accuracy.sh REAL CSV [DRAWS [TASK [CORRECT]]]
# REAL has models/ and images/; CSV gets a line for each layer and run; the table goes to stdout.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# The launcher finds the JDK and builds; a source-launched program shares its class path.
TACO_MAIN="$here/AccuracyTable.java" exec "$here/../taco" "$1" "$2" "${3:-3}" "${4:-}" "${5:-mean-variance}"
