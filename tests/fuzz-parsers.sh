#!/bin/sh
# Fuzz every parser that strangers' bytes meet: FUZZ_SECONDS each, FUZZ_ONLY for one of them.
# What found something once lies in tests/fuzz/corpus; new inputs are gathered in target/fuzz.
set -eu
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-600}
# Components are compiled by a child process: the engine itself.
make --no-print-directory host control
failed=
for target in ${FUZZ_ONLY:-$(sed -n 's/^    ("\(.*\)", .*),$/\1/p' host/src/fuzz.rs)}; do
    gathered=target/fuzz/$target
    mkdir -p "$gathered"
    # A component is larger than what a parser reads.
    [ "$target" = component ] && length=32768 || length=4096
    if FUZZ_TARGET=$target target/release/plugpost-fuzz -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 \
        -max_len=$length -artifact_prefix="target/fuzz/$target-" "$gathered" "tests/fuzz/corpus/$target" 2>"$gathered.log"; then
        sed -n "s/^Done \(.*\) runs in \(.*\) second.*/$target: \1 inputs in \2 s/p" "$gathered.log"
    else
        tail -40 "$gathered.log"
        failed="$failed $target"
    fi
done
[ -z "$failed" ] || { echo "found something:$failed; the inputs are in target/fuzz"; exit 1; }
