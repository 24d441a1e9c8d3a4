# Sourced by the scripts that show that a crate's loom models can fail (tests/seeded-bugs.sh): runs the models as they are, which must pass, and gives them
# must_fail, which runs some with one bug seeded. One build serves all runs: in loom builds the bug is chosen at run time by a variable (src/sync.rs of the
# crate); other builds have no such switch.
#
# Before it is sourced: package, its name; variable, the one that names the bug; what else than an assertion shows that a bug was noticed, in shown.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export RUSTFLAGS="--cfg loom ${RUSTFLAGS:-}" RUST_BACKTRACE=0
# A directory of its own: the flags would otherwise rebuild the whole workspace's dependencies back and forth.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom"
unset "$variable"
models=(cargo test --quiet --release --package "$package" --test loom --)

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
        env "$variable=$bug" timeout 120 "${models[@]}" --exact "$model" >"$output" 2>&1 || status=$?
        if [ "$status" -eq 0 ] || [ "$status" -eq 124 ] || ! grep -q "^running 1 test" "$output" ||
            ! grep -Eq "Causality violation|currently (reading|writing)|assertion .*failed${shown:+|$shown}" "$output"; then
            echo "seeded bug $bug was not noticed by $model (status $status)" >&2
            failed=1
        else
            echo "seeded bug $bug: noticed by $model"
        fi
    done
}
