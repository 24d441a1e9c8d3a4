#!/usr/bin/env bash
# Shows that the loom models can fail: they pass as they are, and each of these bugs, seeded, is noticed by the models named
# (scripts/seeded-bugs.bash).
package=sa-table
variable=SA_TABLE_SEEDED_BUG
. "$(dirname "$0")/../../../scripts/seeded-bugs.bash"

must_fail relaxed_publication addition_is_seen_whole
must_fail skipped_grace removal_waits_for_the_batch removal_waits_for_every_lane slot_is_reused_beside_a_stale_handle
must_fail missing_fence removal_waits_for_the_batch lanes_come_and_go_beside_a_removal
must_fail relaxed_clock removal_waits_for_the_batch
must_fail relaxed_enter removal_comes_after_earlier_batches
must_fail relaxed_exit removal_waits_for_the_batch removal_waits_for_every_lane
exit "$failed"
