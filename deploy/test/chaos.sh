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

# Not those that have ended and wait for somebody to ask how.
running() { pgrep -c -x --runstates RSD phalanx-server || true; }
all_run() { (($(running) == 5)); }
some_are_down() { (($(running) < 5)); }
# Any of them may be down.
all=127.0.0.1:9000,127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9003,127.0.0.1:9004
keys() { phalanx list chaos/ --keys-only --addr "$all" --timeout 60s; }
first_key() { key=$(keys | sed -n 1p) && [[ $key ]]; }
delete() { phalanx del "$@" --addr "$all" --timeout 60s >/dev/null; }

# Starts it, in a group of its own as in a terminal, and goes on at once. Ctrl-C is not ignored, as it would be in the background otherwise.
begin() { env --default-signal=INT setsid "$root/scripts/chaos.sh" ./data 127.0.0.1:9000 --target local "$@" >said 2>&1 & }

testing "a mesh of five"
mesh up 5

testing "two at once are down, by SIGTERM"
start_timing_writes
chaos 0 --rounds 2 --down 2
stop_timing_writes
has "$said" "rounds = 2 of 2"
has "$said" "lost = 0"
# A write is refused, too, when 10 s have passed, which they may only if the machine itself was held up.
gap=$(longest_gap "$said")
is_within "$gap" 10000
((gap >= 10000)) || has "$said" "refused = 0"
left=$(keys)
[[ ! $left ]]

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
mark_rolling data/node-*.log
start_timing_writes
chaos 0 --rounds 1 --rolling
stop_timing_writes
has "$said" "lost = 0"
is_within "$(longest_gap "$said")" 2500
handed_over data/node-*.log

testing "a gap over --max-gap fails"
chaos 1 --rounds 1 --max-gap 1
has "$said" "over --max-gap"
# What failed keeps its keys.
delete --prefix chaos/

testing "a key is deleted behind its back"
begin --rounds 100 --down 1
pid=$!
eventually 30 first_key
delete "$key"
code=0
wait "$pid" || code=$?
((code == 1))
has "$(<said)" "lost: $key was acknowledged"
has "$(<said)" "lost = 1"
eventually 10 all_run
delete --prefix chaos/

none_restarts() { ! pgrep -f local-mesh.sh >/dev/null; }
none_writes() { ! pgrep -f "scripts/chaos.sh ./data" >/dev/null; }
none_stops() {
    local log
    for log in data/node-*.log; do
        awk '/ asked to stop/ { up = 0 } / starts: node / { up = 1 } END { exit !up }' "$log" || return 1
    done
}
a_stop_has_begun() { pgrep -f "local-mesh.sh stop" >/dev/null && ! none_stops; }
# Interrupts the one that was begun while nodes are down, or when that holds. Descriptor 9, if it is open, reads what it says.
# That is closed after the signal: before, the next word would end it by SIGPIPE.
interrupt() {
    local code=0
    eventually 30 "${2-some_are_down}"
    kill -INT -- "-$1"
    exec 9<&-
    wait "$1" || code=$?
    ((code == 130))
    eventually 10 all_run
    none_stops
    eventually 10 none_writes
}

testing "Ctrl-C while nodes are down brings them back"
begin --rounds 100 --down 2
interrupt "$!"
has "$(<said)" "lost = 0"

testing "Ctrl-C while nodes are about to stop brings them back, too"
begin --rounds 100 --down 2
interrupt "$!" a_stop_has_begun
has "$(<said)" "lost = 0"

testing "Ctrl-C is heeded, too, when nobody reads any longer what is said"
mkfifo pipe
env --default-signal=INT,PIPE setsid "$root/scripts/chaos.sh" ./data 127.0.0.1:9000 --target local --rounds 100 --down 2 >pipe 2>&1 &
exec 9<pipe
read -r line <&9
has "$line" "5 nodes, of which 5 vote"
interrupt "$!"
delete --prefix chaos/

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
