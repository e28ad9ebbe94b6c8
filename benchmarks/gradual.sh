#!/usr/bin/env bash
# Measures schedules of pruning in transfer to another task: MobileNetV2 from ImageNet to CIFAR-10.
#   benchmarks/gradual.sh measure REAL CSV METHODS SPARSITIES DRAWS [SHOTS PASSES FINETUNE]   appends
#   benchmarks/gradual.sh table CSV...                                            prints Markdown
# REAL has models/ and images/; lists are separated by ; and without arguments the names are printed.
# The whole table, some 20 minutes on two cores:
#   benchmarks/gradual.sh measure REAL gradual.csv "TACO, one-shot;TACO, gradual;GMP;LTH" \
#     "0.5;0.8;0.95" 0
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# The launcher finds the JDK and builds; a source-launched program shares its class path.
TACO_MAIN="$here/GradualTable.java" exec "$here/../taco" "$@"
