#!/usr/bin/env bash
# Tests scripts/chaos.sh on the mesh of scripts/local-mesh.sh: it finds nothing where nothing is lost, names a key that is, and
# leaves no node down.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/common.sh"
needs unshare ip
apart "$@"
find_programs
ip link set lo up
make_folder
cd "$folder"
# What a failed run keeps is kept there.
export TMPDIR=$folder

mesh() { "$root/scripts/local-mesh.sh" "$@" >mesh.log 2>&1; }

# Runs it, and gives what it says. The exit code must be that.
chaos() {
    local expected=$1 code=0
    shift
    said=$("$root/scripts/chaos.sh" ./data 127.0.0.1:9000 --target local "$@" 2>&1) || code=$?
    ((code == expected)) || {
        printf 'exit code %d, and not %d, after %s: %s\n' "$code" "$expected" "$*" "$said" >&2
        return 1
    }
}

explain() { tail -n 5 data/node-*.log; }

running() { pgrep -c -x phalanx-server || true; }
all_run() { (($(running) == 5)); }
some_are_down() { (($(running) < 5)); }
keys() { phalanx list chaos/ --keys-only --addr 127.0.0.1:9000 2>/dev/null; }
first_key() { key=$(keys | sed -n 1p) && [[ $key ]]; }

# Starts it, and goes on at once. Ctrl-C is not ignored, as it would be in the background otherwise.
begin() { env --default-signal=INT "$root/scripts/chaos.sh" ./data 127.0.0.1:9000 --target local "$@" >said 2>&1 & }

testing "a mesh of five"
mesh up 5

testing "two at once are down, by SIGTERM"
chaos 0 --rounds 2 --down 2
has "$said" "rounds = 2 of 2"
has "$said" "refused = 0"
has "$said" "lost = 0"
[[ ! $(keys) ]]

testing "two at once are down, by SIGKILL"
chaos 0 --rounds 2 --down 2 --kill --seed 7
has "$said" "by SIGKILL"
has "$said" "seed = 7"
has "$said" "lost = 0"

testing "the same seed takes the same nodes"
chosen() { grep -oE '^round [0-9]+ of [0-9]+: [^;]*' <<<"$said"; }
before=$(chosen)
chaos 0 --rounds 2 --down 2 --kill --seed 7
[[ $(chosen) == "$before" ]]

testing "all are restarted one by one, and leadership is handed over"
chaos 0 --rounds 1 --rolling --max-gap 2500
has "$said" "lost = 0"

testing "a gap over --max-gap fails"
chaos 1 --rounds 1 --max-gap 1
has "$said" "over --max-gap"
# What failed keeps its keys.
phalanx del --prefix chaos/ --addr 127.0.0.1:9000 >/dev/null

testing "a key is deleted behind its back"
begin --rounds 100 --down 1
pid=$!
eventually 30 first_key
phalanx del "$key" --addr 127.0.0.1:9000 >/dev/null
code=0
wait "$pid" || code=$?
((code == 1))
has "$(<said)" "lost: $key was acknowledged"
has "$(<said)" "lost = 1"
all_run
phalanx del --prefix chaos/ --addr 127.0.0.1:9000 >/dev/null

none_restarts() { ! pgrep -f local-mesh.sh >/dev/null; }
none_writes() { ! pgrep -f "scripts/chaos.sh ./data" >/dev/null; }
# Interrupts the one that was begun while nodes are down.
interrupt() {
    local code=0
    eventually 30 some_are_down
    kill -INT "$1"
    wait "$1" || code=$?
    ((code == 130))
    eventually 10 all_run
    eventually 10 none_writes
}

testing "Ctrl-C while nodes are down brings them back"
begin --rounds 100 --down 2
interrupt "$!"
has "$(<said)" "lost = 0"

testing "Ctrl-C is heeded, too, when nobody reads any longer what is said"
mkfifo pipe
head -n 1 pipe >said &
env --default-signal=INT,PIPE "$root/scripts/chaos.sh" ./data 127.0.0.1:9000 --target local --rounds 100 --down 2 >pipe 2>&1 &
interrupt "$!"
has "$(<said)" "5 nodes, of which 5 vote"
phalanx del --prefix chaos/ --addr 127.0.0.1:9000 >/dev/null

testing "its writers end with it, when it is killed"
begin --rounds 100 --down 1
pid=$!
eventually 30 first_key
kill -KILL "$pid"
wait "$pid" || true
eventually 30 none_writes
eventually 60 none_restarts
mesh up
eventually 10 all_run

testing "what it refuses"
chaos 2 --down 3
has "$said" "of 5 voters 2 may be down at once, and not 3"
chaos 2 --rounds none
chaos 2 --frobnicate
said=$("$root/scripts/chaos.sh" 2>&1) && exit 1
has "$said" "Usage"

testing "done"
mesh down
