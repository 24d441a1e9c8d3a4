#!/usr/bin/env bash
# Shows that the loom models can fail: they pass as they are, and each of these bugs, seeded, is noticed by the models named
# (scripts/seeded-bugs.bash).
package=wire-order
variable=WIRE_ORDER_SEEDED_BUG
shown='sent \['
. "$(dirname "$0")/../../../scripts/seeded-bugs.bash"

must_fail no_fence_after_release two_workers_keep_the_order three_workers_keep_the_order
must_fail no_fence_after_park two_workers_keep_the_order
must_fail no_second_look two_workers_keep_the_order
must_fail relaxed_release two_workers_keep_the_order a_worker_waits_where_there_is_no_room
must_fail release_before_send two_workers_keep_the_order
must_fail overtake a_worker_waits_where_there_is_no_room workers_of_two_domains_do_not_block_one_another
must_fail no_heir a_worker_that_ends_holds_nobody what_is_left_behind_is_sent_by_one
exit "$failed"
