#!/usr/bin/env bash
# Measures what 8-bit activations cost in accuracy, by how their ranges are chosen: README.md.
#   benchmarks/integers.sh RUN...     prints Markdown
# Each RUN is the folder of a specialist that `taco specialize --bits 8` made, with
# --activation-bits or without; the images are found where that run found them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# The launcher finds the JDK and builds; a source-launched program shares its class path.
TACO_MAIN="$here/IntegerTable.java" exec "$here/../taco" "$@"
