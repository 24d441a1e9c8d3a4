#!/usr/bin/env bash
# Shows that the loom models can fail: runs them as they are (they must pass), then with one bug seeded at a time (the
# model named must fail, and because of what the bug does). One build serves all runs: in loom builds the bug is chosen
# at run time by SA_TABLE_SEEDED_BUG (src/sync.rs); other builds have no such switch.
set -euo pipefail
cd "$(dirname "$0")/../../.."

export RUSTFLAGS="--cfg loom ${RUSTFLAGS:-}" RUST_BACKTRACE=0
# A directory of its own: the flags would otherwise rebuild the whole workspace's dependencies back and forth.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom"
unset SA_TABLE_SEEDED_BUG
models=(cargo test --quiet --release --package sa-table --test loom --)

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
        SA_TABLE_SEEDED_BUG=$bug timeout 120 "${models[@]}" --exact "$model" >"$output" 2>&1 || status=$?
        if [ "$status" -eq 0 ] || [ "$status" -eq 124 ] || ! grep -q "^running 1 test" "$output" ||
            ! grep -Eq "Causality violation|currently (reading|writing)|assertion .*failed" "$output"; then
            echo "seeded bug $bug was not noticed by $model (status $status)" >&2
            failed=1
        else
            echo "seeded bug $bug: noticed by $model"
        fi
    done
}

must_fail relaxed_publication addition_is_seen_whole
must_fail skipped_grace removal_waits_for_the_batch removal_waits_for_every_lane slot_is_reused_beside_a_stale_handle
must_fail missing_fence removal_waits_for_the_batch lanes_come_and_go_beside_a_removal
must_fail relaxed_clock removal_waits_for_the_batch
must_fail relaxed_enter removal_comes_after_earlier_batches
must_fail relaxed_exit removal_waits_for_the_batch removal_waits_for_every_lane
exit "$failed"
