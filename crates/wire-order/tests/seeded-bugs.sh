#!/usr/bin/env bash
# Shows that the loom models can fail: runs them as they are (they must pass), then with one bug seeded at a time (the
# model named must fail, and because of what the bug does). One build serves all runs: in loom builds the bug is chosen
# at run time by WIRE_ORDER_SEEDED_BUG (src/sync.rs); other builds have no such switch.
set -euo pipefail
cd "$(dirname "$0")/../../.."

export RUSTFLAGS="--cfg loom ${RUSTFLAGS:-}" RUST_BACKTRACE=0
# A directory of its own: the flags would otherwise rebuild the whole workspace's dependencies back and forth.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom"
unset WIRE_ORDER_SEEDED_BUG
models=(cargo test --quiet --release --package wire-order --test loom --)

"${models[@]}"

output=$(mktemp)
trap 'rm -f "$output"' EXIT
failed=0

# must_fail BUG MODEL...: each of the models fails under the bug, by an assertion of loom's or of its own.
must_fail() {
    local bug=$1 model status
    shift
    for model in "$@"; do
        status=0
        WIRE_ORDER_SEEDED_BUG=$bug timeout 120 "${models[@]}" --exact "$model" >"$output" 2>&1 || status=$?
        if [ "$status" -eq 0 ] || [ "$status" -eq 124 ] || ! grep -q "^running 1 test" "$output" ||
            ! grep -Eq "Causality violation|currently (reading|writing)|assertion .*failed|sent \[" "$output"; then
            echo "seeded bug $bug was not noticed by $model (status $status)" >&2
            failed=1
        else
            echo "seeded bug $bug: noticed by $model"
        fi
    done
}

must_fail no_fence_after_release two_workers_keep_the_order three_workers_keep_the_order
must_fail no_fence_after_park two_workers_keep_the_order
must_fail no_second_look two_workers_keep_the_order
must_fail relaxed_release two_workers_keep_the_order a_worker_waits_where_there_is_no_room
must_fail release_before_send two_workers_keep_the_order
must_fail overtake a_worker_waits_where_there_is_no_room workers_of_two_domains_do_not_block_one_another
exit "$failed"
