#!/usr/bin/env bash
# What the log and the memory come to under a million writes, how long a node takes to start after them, and what it
# costs a writer when a fresh node catches up.
#
# Three nodes on this machine, then a fourth. Needs `cargo build --release --workspace`.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
puts=${PUTS:-1000000}
export PHALANX_BIN_DIR=${PHALANX_BIN_DIR:-$root/target/release}
made=
[[ -n ${MESH_DIR-} ]] || made=$(mktemp -d)
export MESH_DIR=${MESH_DIR:-$made}
export TARGET_VOTERS=3
bench=$PHALANX_BIN_DIR/phalanx-bench
mesh=$root/scripts/local-mesh.sh
samples=$MESH_DIR/samples

clean_up() {
    "$mesh" down >/dev/null || true
    [[ -z $made ]] || rm -r "$made"
}
trap clean_up EXIT

pid() { cat "$MESH_DIR/node-$1.pid"; }

# What /debug/status says of one number.
status() {
    local number
    exec 3<>"/dev/tcp/127.0.0.1/808$1"
    printf 'GET /debug/status HTTP/1.0\r\n\r\n' >&3
    number=$(tr ',{}' '[\n*]' <&3 | sed -n "s/^ *\"$2\": *\([0-9]*\)$/\1/p" | head -n 1)
    exec 3>&-
    printf '%s' "$number"
}

leader() {
    local i
    for ((i = 0; i < 3; i++)); do
        if [[ $(printf 'GET /debug/status HTTP/1.0\r\n\r\n' | http "$i") == *'"LEADER"'* ]]; then
            printf '%d' "$i"
            return
        fi
    done
}

http() {
    exec 3<>"/dev/tcp/127.0.0.1/808$1" || return 1
    cat >&3
    cat <&3
    exec 3>&-
}

# One line a second: resident memory (less the pages of LMDB's map, which are the kernel's to take back) and the log's
# segments of every node, in MiB.
sample() {
    local i anonymous log
    while sleep 1; do
        for i in 0 1 2; do
            anonymous=$(awk '/^RssAnon/ { print int($2 / 1024) }' "/proc/$(pid "$i")/status")
            log=$(du -m -s "$MESH_DIR/$i/log" | cut -f1)
            printf '%d %d %d\n' "$i" "$anonymous" "$log"
        done
    done >"$samples"
}

now_ms() { date +%s%3N; }

# From the start of the process until it says that it is well.
restart() {
    local begun signal=$2
    kill -"$signal" "$(pid "$1")"
    while kill -0 "$(pid "$1")" 2>/dev/null; do sleep 0.01; done
    begun=$(now_ms)
    NODE_ID=node-$1 PEERS=node-0,node-1,node-2 DATA_DIR=$MESH_DIR/$1 LISTEN_ADDR=127.0.0.1:900$1 \
        DEBUG_ADDR=127.0.0.1:808$1 TICK_MS=100 ELECTION=10 HEARTBEAT=3 \
        "$PHALANX_BIN_DIR/phalanx-server" >>"$MESH_DIR/node-$1.log" 2>&1 </dev/null &
    disown
    printf '%d\n' $! >"$MESH_DIR/node-$1.pid"
    until printf 'GET /health HTTP/1.0\r\n\r\n' | http "$1" 2>/dev/null | grep -q '200 OK'; do sleep 0.01; done
    printf 'node-%d, after SIG%s: well again %d ms after its start\n' "$1" "$signal" $(($(now_ms) - begun))
}

printf '== three nodes, data in %s\n' "$MESH_DIR"
"$mesh" up 3 >/dev/null
leader=$(leader)

printf '== %d puts of 256 bytes, each of a new key\n' "$puts"
sample &
sampler=$!
"$bench" load --addr "127.0.0.1:900$leader" --op put --clients 64 --count "$puts" --value-len 256
sleep 3
kill "$sampler"
sort -n "$samples" | awk '{ if ($2 > memory[$1]) memory[$1] = $2; if ($3 > log_mib[$1]) log_mib[$1] = $3 }
    END { for (i in memory) printf "node-%d: at most %d MiB of memory, %d MiB of log\n", i, memory[i], log_mib[i] }'
du -m -s "$MESH_DIR"/[0-2]/log "$MESH_DIR"/[0-2]/state-*

printf '== restarts\n'
follower=$(((leader + 1) % 3))
restart "$follower" TERM
restart "$follower" KILL

leader=$(leader)
printf '== one writer at the leader (node-%d): before, and while a fresh node catches up\n' "$leader"
writer() { "$bench" load --addr "127.0.0.1:900$leader" --op put --clients 1 --seconds "$1" --keys "$puts" --value-len 256; }
writer 10
begun=$(now_ms)
"$mesh" up 4 >/dev/null &
joining=$!
writer "${CATCH_UP_S:-10}"
wait "$joining"
until [[ $(status 3 kv_size) == "$(status "$leader" kv_size)" ]]; do
    sleep 0.1
done
printf 'node-3 has all %d keys %d ms after its start (looked at after the writer was done)\n' "$(status 3 kv_size)" $(($(now_ms) - begun))
grep -h snapshot "$MESH_DIR/node-3.log" || true
writer 10
