#!/usr/bin/env bash
# Fuzzes the targets one after the other with libFuzzer, guided by coverage, on the stable toolchain. The address sanitizer is
# not available there, and not needed: the only unsafe code is in `st`. Needs a C++ compiler.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../fuzz" || exit 1
# shellcheck source=trunk-scripts/common.sh
. ../trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/fuzz.sh [--seconds N] [TARGET…]

Fuzzes these targets, or all targets, with libFuzzer. Needs a C++ compiler.

  --seconds N   time for each target (default 600)
  -h            print this text

New corpus entries are stored in fuzz/target/corpus. An input that fails is stored in fuzz/artifacts/TARGET; add it as a
named test.

Examples:
  bash trunk-scripts/fuzz.sh
  bash trunk-scripts/fuzz.sh --seconds 60 chunk amf0
END
}

seconds=600
targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --seconds) need "$@" && seconds=$2 && shift ;;
    -*) other_option "$1" ;;
    *) targets+=("$1") ;;
    esac
    shift
done
if [ "${#targets[@]}" -eq 0 ]; then
    mapfile -t targets < <(basename -s .rs fuzz_targets/*.rs)
fi

# The flags of `cargo fuzz`, without the sanitizer. With --target, build scripts are not instrumented.
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
cargo build --release --locked --target "$host" --bins || exit 1

failed=0
for target in "${targets[@]}"; do
    new_inputs=target/corpus/$target
    mkdir -p "$new_inputs" "artifacts/$target" "corpus/$target"
    echo "== $target, $seconds s"
    # 64 KiB exceeds the data that any decoder stores between two units; 2 GiB is far above their memory limits.
    "target/$host/release/$target" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" "$new_inputs" "corpus/$target" >"target/$target.log" 2>&1 || {
        failed=$((failed + 1))
        echo "$target FAILED: see artifacts/$target and fuzz/target/$target.log"
    }
    grep -E 'number_of_executed_units|average_exec|peak_rss|^#[0-9]+.*DONE' "target/$target.log"
done
[ "$failed" -eq 0 ]
