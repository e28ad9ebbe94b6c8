#!/usr/bin/env bash
# Runs the quick benchmarks, some minutes, and gathers them in benchmarks/results/<date>-<cpu>-<gpu>.json:
# solvers on the processor and, where --backend cuda can be had, on the GPU; sparse operators against
# dense ones in ONNX Runtime.
#   benchmarks/suite.sh          what is said above
#   benchmarks/suite.sh --jmh    and the JMH benchmarks of the solvers: another quarter of an hour
# TACO4J_RESULTS names another folder. README.md says what the longer benchmarks are.
set -euo pipefail
cd "$(dirname "$0")/.."
jmh=
for option; do
  case $option in
    --jmh) jmh=1 ;;
    -h | --help)
      sed -n '2,/^set /p' benchmarks/suite.sh | sed '$d; s/^# \{0,1\}//'
      exit 0
      ;;
    *)
      echo "suite.sh: there is no option $option; --help shows what there is" >&2
      exit 2
      ;;
  esac
done
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
doctor=$(./taco doctor --json | tr -d ' \n')
if [[ $doctor == *'"cuda":{"available":true'* ]]; then
  run SolverSpeed "$work/layers" "$shapes" 8192 5 cuda >"$work/cuda.jsonl"
fi
run SparseSpeed resnet50 0.8,0.9 unstructured 1 1 10 >"$work/sparse-resnet50.txt"
if [ -n "$jmh" ]; then
  mvn -q -B -ntp -Pjmh -Dspotless.check.skip=true test-compile exec:exec@jmh \
    -Djmh.args="FastObc|ZipLm -rf json -rff $PWD/$work/jmh.json"
fi
rm -rf "$work/layers"
run ResultsFile "${TACO4J_RESULTS:-benchmarks/results}" "$work"/*
