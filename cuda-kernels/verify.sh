#!/usr/bin/env bash
# Verifies and times the CUDA backend on a machine with a GPU: one command.
#   cuda-kernels/verify.sh              builds, tests, sanitizes, times, prints a table
#   cuda-kernels/verify.sh tests        builds and tests only; so do: sanitize, times
#   cuda-kernels/verify.sh prepare      builds target/verify, for a machine without Maven or network:
#                                       copy the checkout with target/verify there, and run this there
# What it needs: an NVIDIA driver (580 or newer), the CUDA 13 toolkit (with compute-sanitizer for
# `sanitize`), and without target/verify Maven, a JDK 25 and nvcc. PyTorch with CUDA for python3 is
# what times are compared with; without it the table has ours alone.
#   TACO_JAVA_HOME      the Java to use, 25 or newer
#   TACO4J_PYTHON       the Python that has PyTorch (python3)
#   TACO4J_SHAPES       layers to time (768x768,3072x768,768x3072,256x2304,512x4608)
#   TACO4J_SAMPLES      inputs that their Hessians are made of (8192)
#   TACO4J_REPEATS      how often each is timed (5)
# Exit codes: 0 all well, 1 a test, a sanitizer or a check of results failed, 7 something is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
ready=target/verify
results=target/verify-results
tools=(memcheck racecheck initcheck synccheck)

missing() {
  echo "verify.sh: $1" >&2
  exit 7
}

step() {
  echo "== $1" >&2
}

usage() {
  sed -n '2,/^set /p' cuda-kernels/verify.sh | sed '$d; s/^# \{0,1\}//'
}

java_of() {
  local home=$1 version
  [ -x "$home/bin/java" ] && [ -f "$home/release" ] || return 1
  version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release")
  [ "${version:-0}" -ge 25 ]
}

find_java() {
  local home on_path
  on_path=$(command -v java || true)
  [ -z "$on_path" ] || on_path=$(dirname "$(dirname "$(readlink -f "$on_path")")")
  for home in "${TACO_JAVA_HOME:-}" "$PWD/$ready/java" "${JAVA_HOME:-}" "$on_path" /usr/lib/jvm/*; do
    if [ -n "$home" ] && java_of "$home"; then
      echo "$home"
      return 0
    fi
  done
  return 1
}

# Class files, kernels and jars of tests and times, in one folder.
prepare() {
  local java_home junit_version
  command -v mvn >/dev/null || missing "no mvn on PATH to build with; build elsewhere: cuda-kernels/verify.sh prepare"
  command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || missing "no nvcc to build with; build elsewhere: cuda-kernels/verify.sh prepare"
  java_home=$(find_java) || missing "no JDK 25 or newer (TACO_JAVA_HOME, JAVA_HOME, PATH)"
  export JAVA25_HOME=$java_home # Maven looks for JDKs elsewhere than we do
  step "build"
  mvn -q -B -Dspotless.check.skip -DskipTests test-compile
  ls target/classes/META-INF/cuda/*.fatbin >/dev/null 2>&1 || missing "the build has compiled no kernels"
  rm -rf "$ready"
  mkdir -p "$ready/classes" "$ready/lib"
  # The launcher is of the version of the tests' JUnit, by way of what it needs itself.
  junit_version=$(sed -n 's/.*<junit.version>\(.*\)<.*/\1/p' pom.xml)
  mvn -q -B dependency:copy-dependencies -DincludeScope=test -DoutputDirectory="$ready/lib" \
    -DincludeArtifactIds=jspecify,javacpp,cuda,openblas,jackson-databind,jackson-core,jackson-annotations,jackson-dataformat-yaml,snakeyaml,junit-jupiter,junit-jupiter-api,junit-jupiter-params,junit-jupiter-engine,junit-platform-commons,junit-platform-engine,opentest4j,apiguardian-api
  mvn -q -B dependency:copy -Dartifact="org.junit.platform:junit-platform-launcher:$junit_version" \
    -DoutputDirectory="$ready/lib"
  cp -r target/classes/. target/test-classes/. "$ready/classes/"
  # What touches a GPU. Whole models are left out: they need ONNX Runtime and Java's images.
  grep -lE '\b(FakeCuda|CudaBackends)\b' -r src/test/java --include='*Test.java' |
    grep -vE '/(cli|reconstruct|runtime|bench)/|/(FakeCuda|CudaProbe)Test' |
    sed 's|^src/test/java/||; s|\.java$||; s|/|.|g' >"$ready/tests"
  rm -rf "$ready"/classes/META-INF/native "$ready"/classes/org/taco4j/demo # neither is for GPUs
  "$java_home/bin/javac" -nowarn --add-modules jdk.incubator.vector -cp "$ready/classes:$ready/lib/*" \
    -d "$ready/classes" cuda-kernels/check/*.java benchmarks/SolverSpeed.java benchmarks/ResultsFile.java
  if [ "${1:-}" = with-java ] && [ -x "$java_home/bin/jlink" ]; then
    "$java_home/bin/jlink" --output "$ready/java" --strip-debug --no-header-files --no-man-pages \
      --compress zip-6 --add-modules java.base,java.logging,java.management,java.xml,jdk.incubator.vector,jdk.management,jdk.unsupported,jdk.zipfs
  fi
  echo "$ready: $(du -sh "$ready" | cut -f 1)" >&2
}

on_gpu_machine() {
  command -v nvidia-smi >/dev/null || missing "no GPU: there is no nvidia-smi, so no NVIDIA driver; install it, or run this on a machine that has one"
  nvidia-smi --query-gpu=index,name,compute_cap,driver_version,memory.total --format=csv >&2 ||
    missing "no GPU: nvidia-smi finds none"
  if command -v mvn >/dev/null; then
    prepare
  elif [ ! -d "$ready" ]; then
    missing "no mvn on PATH and no $ready; build it elsewhere: cuda-kernels/verify.sh prepare"
  fi
  java_home=$(find_java) || missing "no Java 25 or newer (TACO_JAVA_HOME, $ready/java, JAVA_HOME, PATH)"
  java=("$java_home/bin/java" --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED
    --sun-misc-unsafe-memory-access=allow -Dorg.bytedeco.javacpp.maxPhysicalBytes=0 -Xmx6g
    -cp "$ready/classes:$ready/lib/*")
  mkdir -p "$results"
  # One reason, rather than one for each test.
  "${java[@]}" FindGpu || exit 7
}

tests() {
  step "tests on the GPU"
  # shellcheck disable=SC2046 # a list of classes
  TACO4J_TEST_GPU=1 "${java[@]}" RunTests $(<"$ready/tests") || {
    echo "verify.sh: tests failed on the GPU" >&2
    exit 1
  }
}

# The same tests; their shapes are small and awkward ones. cuBLAS's kernels
# are not ours to check. No GPU machine has tried this part of the script yet: where the Java VM and
# the sanitizer get into each other's way, try --launch-timeout and -Xint.
sanitize() {
  local tool sanitizer filter=()
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null) ||
    missing "no compute-sanitizer; it comes with the CUDA toolkit"
  if "$sanitizer" --help | grep -q -- --kernel-regex; then
    filter=(--kernel-regex kns=taco4j_)
  fi
  for tool in "${tools[@]}"; do
    step "compute-sanitizer $tool"
    # shellcheck disable=SC2046 # a list of classes
    TACO4J_TEST_GPU=1 "$sanitizer" --tool "$tool" --target-processes application-only \
      --error-exitcode 9 "${filter[@]}" --log-file "$results/$tool.log" \
      "${java[@]}" RunTests $(<"$ready/tests") || {
      tail -n 40 "$results/$tool.log" >&2
      echo "verify.sh: $tool found errors, or the tests failed under it; see $results/$tool.log" >&2
      exit 1
    }
    tail -n 1 "$results/$tool.log" >&2
  done
}

times() {
  local failed=0 python=${TACO4J_PYTHON:-python3}
  step "times"
  "${java[@]}" SolverSpeed "$results/layers" \
    "${TACO4J_SHAPES:-768x768,3072x768,768x3072,256x2304,512x4608}" "${TACO4J_SAMPLES:-8192}" \
    "${TACO4J_REPEATS:-5}" cuda >"$results/solvers.jsonl" || failed=$?
  if [ "$failed" -ne 0 ] && [ "$failed" -ne 5 ]; then
    missing "the solvers cannot be timed"
  fi
  if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    step "times of PyTorch"
    "$python" benchmarks/sparsegpt_torch.py "$results/layers" --repeat "${TACO4J_REPEATS:-5}" >"$results/torch.jsonl"
  else
    echo "verify.sh: $python has no PyTorch that sees the GPU: no ratios" >&2
    : >"$results/torch.jsonl"
  fi
  rm -rf "$results/layers"
  "${java[@]}" ResultsFile benchmarks/results "$results/solvers.jsonl" "$results/torch.jsonl"
  echo "(* estimated from some of its steps, which all do the same work)"
  if [ "$failed" -ne 0 ]; then
    echo "verify.sh: results differ from those of simd: see 'check'" >&2
    exit 1
  fi
}

case ${1:-all} in
  prepare) prepare with-java ;;
  tests | sanitize | times)
    on_gpu_machine
    "$1"
    ;;
  all)
    on_gpu_machine
    tests
    sanitize
    times
    ;;
  -h | --help) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
