#!/usr/bin/env bash
# Runs the quick benchmarks, some minutes, and gathers them in benchmarks/results/<date>-<cpu>-<gpu>.json:
# solvers on the processor and, where --backend cuda can be had, on the GPU; sparse operators against
# dense ones in ONNX Runtime.
#   benchmarks/suite.sh          what is said above
#   benchmarks/suite.sh --jmh    and the JMH benchmarks of the solvers: another quarter of an hour
# TACO4J_RESULTS names another folder. README.md says what the longer benchmarks are.
set -euo pipefail
cd "$(dirname "$0")/.."
work=target/suite
rm -rf "$work"
mkdir -p "$work"
shapes=384x384,768x768,256x2304

run() {
  local program=$1
  shift
  echo "== $program $*" >&2
  TACO_MAIN="benchmarks/$program.java" ./taco "$@"
}

run SolverSpeed "$work/layers" "$shapes" 4096 3 simd >"$work/simd.jsonl"
if ./taco doctor | grep -q -- '--backend cuda can be used'; then
  run SolverSpeed "$work/layers" "$shapes" 8192 5 cuda >"$work/cuda.jsonl"
fi
run SparseSpeed resnet50 0.8,0.9 unstructured 1 1 10 >"$work/sparse-resnet50.txt"
if [ "${1:-}" = --jmh ]; then
  mvn -q -B -ntp -Pjmh -Dspotless.check.skip=true test-compile exec:exec@jmh \
    -Djmh.args="FastObc|ZipLm -rf json -rff $PWD/$work/jmh.json"
fi
rm -rf "$work/layers"
run ResultsFile "${TACO4J_RESULTS:-benchmarks/results}" "$work"/*
