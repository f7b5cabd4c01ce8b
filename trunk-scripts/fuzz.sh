#!/usr/bin/env bash
# Fuzzes one target after the other with libFuzzer, guided by coverage, on the stable toolchain (so without address sanitizer,
# which the code, having no unsafe outside of `st`, does not miss). Needs a C++ compiler.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../fuzz" || exit 1
# shellcheck source=trunk-scripts/common.sh
. ../trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/fuzz.sh [--seconds N] [TARGET…]

  --seconds N   how long each target is fuzzed (default 600)
  -h            this text

Without a target, all of them. What grows of the corpus stays in fuzz/target/corpus; an input that fails is kept in
fuzz/artifacts/TARGET, and is to become a test by name.
END
}

seconds=600
targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --seconds) need "$@" && seconds=$2 && shift ;;
    -h | --help)
        usage
        exit 0
        ;;
    -*) unknown_option "$1" ;;
    *) targets+=("$1") ;;
    esac
    shift
done
if [ "${#targets[@]}" -eq 0 ]; then
    mapfile -t targets < <(basename -s .rs fuzz_targets/*.rs)
fi

# What `cargo fuzz` passes, but for the sanitizer. Build scripts are not instrumented: --target keeps them apart.
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
cargo build --release --locked --target "$host" --bins || exit 1

failed=0
for target in "${targets[@]}"; do
    grown=target/corpus/$target
    mkdir -p "$grown" "artifacts/$target" "corpus/$target"
    echo "== $target, $seconds s"
    # 64 KiB is longer than what any of the decoders keeps between two units; 2 GiB is far above what they may take.
    "target/$host/release/$target" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" "$grown" "corpus/$target" >"target/$target.log" 2>&1 || {
        failed=$((failed + 1))
        echo "$target FAILED: see artifacts/$target and fuzz/target/$target.log"
    }
    grep -E 'number_of_executed_units|average_exec|peak_rss|^#[0-9]+.*DONE' "target/$target.log"
done
[ "$failed" -eq 0 ]
