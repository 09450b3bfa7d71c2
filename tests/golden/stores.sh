#!/usr/bin/env bash
# Stores that an earlier build made, for tests/it/stores.rs: a later build must open, verify and resume them.
#
# Made with the release build of commit 46a2ea4 (version 0.1.0, schema version 2), on x86-64 Linux:
#
#     tests/golden/stores.sh path/to/autodidact
#
# A run dies (`abort`, like kill -9) at a milestone, counted from 1, and its files are kept as it left them.
set -euo pipefail
program=$(realpath "$1")
golden=$(realpath "$(dirname "$0")")/stores
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# The settings are repeated in tests/it/stores.rs.
set_all() { for pair in "$@"; do printf -- '--set\n%s\n' "$pair"; done; }
mapfile -t chain < <(set_all run.iterations=2 tasks.easy=8 tasks.anchor=4 tasks.train=6 tasks.gate=4 \
    tasks.heldout=4 rollout.tasks=3 rollout.variants=3 critic.bootstrap=8 critic.epochs=2 eval.samples=2 \
    eval.sampled_tasks=2 engine.batch_tokens=256)
mapfile -t trees < <(set_all run.iterations=1 rollout.strategy=tot rollout.variants=1 rollout.tasks=2 \
    tasks.gate=2 tasks.heldout=2)

# make NAME MILESTONE SETTINGS…: writes what the dead run left to stores/NAME/killed, and prints the digests of
# that and of the end which the same build reaches when it resumes. The work folder keeps the end.
make() {
    local name=$1 milestone=$2 to=$golden/$1
    shift 2
    mkdir "$work/$name" && cd "$work/$name"
    "$program" run --policy scripted "$@" --crash-at "$milestone" && exit 1
    rm -rf "$to" && mkdir -p "$to"
    cp -r autodidact-run "$to/killed"
    rm "$to/killed/lock" "$to/killed/store.sqlite-shm"
    zstd -19 --rm -q "$to"/killed/store.sqlite*
    echo "$name, killed: $("$program" verify)"
    "$program" run --policy scripted "$@" >/dev/null
    echo "$name, resumed: $("$program" verify)"
}
make chain 65 "${chain[@]}"
# Every row of the end, to be compared one by one.
zstd -19 -q "$work/chain/autodidact-run/store.sqlite" -o "$golden/chain/end.sqlite.zst"
make trees 35 "${chain[@]}" "${trees[@]}"
