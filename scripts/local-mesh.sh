#!/usr/bin/env bash
# A mesh of nodes on this machine: starts them, waits until they are one cluster, and ends them.
#
# Node i is node-i: clients at 127.0.0.1:900i, HTTP at 127.0.0.1:808i, data in $MESH_DIR/i, log and process id in
# $MESH_DIR/node-i.log and node-i.pid. The nodes find each other by gossip on the loopback ports from 7946 on.
set -euo pipefail

NODES_DEFAULT=5
NODES_MAX=9
# A mesh that has not formed by then will not.
FORMED_WITHIN_S=60
STOPPED_WITHIN_S=30

root=$(cd "$(dirname "$0")/.." && pwd)
mesh_dir=${MESH_DIR:-./data}

usage() {
    cat <<END
Usage: scripts/local-mesh.sh up [N] | stop [--kill] I... | down [--wipe] | status

  up [N]         starts the nodes of the mesh that do not run, and waits for the cluster: $NODES_DEFAULT, or as many as
                 last time; at most $NODES_MAX, and no fewer than have data
  stop I...      ends these nodes, as 0 for node-0, with SIGTERM or, after --kill, SIGKILL; up starts them again
  down           ends them, and keeps their data
  down --wipe    ends them, and removes their data
  status         prints the members

  MESH_DIR           where data, logs and process ids are (./data)
  PHALANX_BIN_DIR    where phalanx-server and phalanx are (target/release, target/debug, PATH)

What else is set in the environment (LOG, TARGET_VOTERS, DEAD_AFTER, REGION) holds for all nodes.
END
}

fail() {
    printf 'local-mesh: %s\n' "$1" >&2
    exit "${2:-1}"
}

# ---- The programs. ----

find_programs() {
    local dir
    for dir in ${PHALANX_BIN_DIR:+"$PHALANX_BIN_DIR"} "$root/target/release" "$root/target/debug"; do
        if [[ -x $dir/phalanx-server && -x $dir/phalanx ]]; then
            server=$dir/phalanx-server
            phalanx=$dir/phalanx
            return
        fi
        [[ $dir != "${PHALANX_BIN_DIR:-}" ]] || fail "there are no phalanx-server and phalanx in PHALANX_BIN_DIR=$dir"
    done
    if ! { server=$(command -v phalanx-server) && phalanx=$(command -v phalanx); }; then
        fail "phalanx-server is not built: cargo build --release --bins (in $root), or set PHALANX_BIN_DIR"
    fi
}

# ---- The nodes. ----

pid_file() { printf '%s/node-%d.pid' "$mesh_dir" "$1"; }
log_file() { printf '%s/node-%d.log' "$mesh_dir" "$1"; }
address() { printf '127.0.0.1:900%d' "$1"; }

# Prints the node's process id if it runs. Ids are used again: the process must be a server.
pid_of() {
    local pid command
    pid=$(cat "$(pid_file "$1")" 2>/dev/null) || return 1
    command=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") || return 1
    [[ $command == *phalanx-server* ]] || return 1
    printf '%d' "$pid"
}

# Whether a process is gone to its last thread. Its command line is empty as soon as the first has ended, when another may still
# wait for the disk, and keep the data's lock and the ports.
has_ended() {
    [[ -e /proc/$1 ]] || return 0
    grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null || return 1
    local threads=("/proc/$1/task/"*)
    ((${#threads[@]} == 1))
}

# Whether a process is gone but for a thread or more.
lingers() { grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null && ! has_ended "$1"; }

# Whether it is the node's own process that listens at its address: another mesh may have taken that.
serves() {
    local pid sockets inode
    pid=$(pid_of "$1") || return 1
    # Some are gone before they are looked at.
    sockets=$(readlink "/proc/$pid/fd/"* 2>/dev/null) || true
    # The kernel's table has the local address (its bytes in the order of the machine's), the state and the inode.
    inode=$(awk -v port="$(printf '%04X' "900$1")" \
        '$2 ~ "^(0100007F|7F000001):" port "$" && $4 == "0A" { print $10 }' "/proc/$pid/net/tcp" 2>/dev/null) || return 1
    [[ -n $inode && $sockets == *"socket:[$inode]"* ]]
}

# Prints the numbers of the nodes that run.
running() {
    local i
    for ((i = 0; i < NODES_MAX; i++)); do
        if pid_of "$i" >/dev/null; then printf '%d ' "$i"; fi
    done
}

# The names of all but one, with commas between.
peers_of() {
    local i peers=()
    for ((i = 0; i < nodes; i++)); do
        ((i == $1)) || peers+=("node-$i")
    done
    local IFS=,
    printf '%s' "${peers[*]-}"
}

# Starts a node, in a process group of its own: Ctrl-C is for this script, which knows what to do. It outlives the terminal.
start() {
    local i=$1 pid
    set -m
    # Not by nohup: its command line names the server, too, and is empty for a moment when it becomes that.
    (
        trap '' HUP
        NODE_ID=node-$i PEERS=$(peers_of "$i") DATA_DIR=$mesh_dir/$i GRPC_ADDR=127.0.0.1:900$i DEBUG_ADDR=127.0.0.1:808$i \
            TICK_MS=100 ELECTION=10 HEARTBEAT=3 exec "$server"
    ) >>"$(log_file "$i")" 2>&1 </dev/null &
    pid=$!
    disown
    set +m
    printf '%d\n' "$pid" >"$(pid_file "$i")"
    # It is this shell's copy until it has become the server.
    until pid_of "$i" >/dev/null || ! kill -0 "$pid" 2>/dev/null; do
        sleep 0.05
    done
}

# Ends these nodes with a signal, and waits until they are gone. After SIGTERM they hand over what they lead.
end() {
    local signal=$1 i pid pids=() left deadline=$((SECONDS + STOPPED_WITHIN_S))
    shift
    for i in "$@"; do
        if pids[i]=$(pid_of "$i"); then kill "-$signal" "${pids[i]}" 2>/dev/null || true; fi
    done
    for i in "$@"; do
        pid=${pids[i]}
        until [[ ! $pid ]] || has_ended "$pid"; do
            if ((SECONDS >= deadline)); then
                printf 'node-%d (process %d) does not stop; see %s, or: kill -9 %d\n' "$i" "$pid" "$(log_file "$i")" "$pid"
                left=1
                continue 2
            fi
            sleep 0.1
        done
        rm -f "$(pid_file "$i")"
    done
    [[ -z ${left-} ]]
}

# ---- up ----

# How many voters there will be: an odd number.
voters_expected() {
    local target=${TARGET_VOTERS:-5}
    local voters=$((nodes < target ? nodes : target))
    printf '%d' $((voters - (voters + 1) % 2))
}

# Whether all nodes are alive members of one cluster, and as many as will be are its voters. The one that is asked and
# those that it tells of are this mesh's own.
is_formed() {
    local i
    for ((i = 0; i < nodes; i++)); do
        serves "$i" || return 1
    done
    "$phalanx" members --addr "$(address 0)" --timeout 2s >"$table" 2>&1 || return 1
    awk -v nodes="$nodes" -v voters="$(voters_expected)" '
        BEGIN { for (i = 0; i < nodes; i++) own["node-" i " 127.0.0.1:900" i] }
        NR > 1 && $3 ~ /^(leader|voter|learner)$/ && $4 == "alive" && ($1 " " $6) in own { alive++ }
        NR > 1 && $3 == "leader" { leaders++ }
        NR > 1 && $3 ~ /^(leader|voter)$/ { found++ }
        /^unavailable:/ { refused = 1 }
        END { exit !(alive >= nodes && leaders == 1 && found >= voters && !refused) }' "$table"
}

await_formed() {
    local i deadline=$((SECONDS + FORMED_WITHIN_S))
    until is_formed; do
        for ((i = 0; i < nodes; i++)); do
            pid_of "$i" >/dev/null && continue
            printf 'node-%d did not stay; the end of %s:\n' "$i" "$(log_file "$i")" >&2
            tail -n 3 "$(log_file "$i")" >&2
            return 1
        done
        if ((SECONDS >= deadline)); then
            printf 'no cluster of %d after %d s; what node-0 says of it (and the logs are in %s):\n' \
                "$nodes" "$FORMED_WITHIN_S" "$mesh_dir" >&2
            cat "$table" >&2 2>/dev/null || true
            return 1
        fi
        sleep 0.2
    done
}

# Whether somebody listens at that port.
is_taken() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Refuses to start some of the nodes where others cannot: what listens at a port may be a node, too, whose cluster they would join.
# One that was killed may have its ports and the data's lock for a moment more.
refuse_taken() {
    local i pid port deadline
    for ((i = 0; i < nodes; i++)); do
        ! pid_of "$i" >/dev/null || continue
        pid=$(cat "$(pid_file "$i")" 2>/dev/null) || pid=
        deadline=$((SECONDS + STOPPED_WITHIN_S))
        while [[ $pid ]] && lingers "$pid"; do
            ((SECONDS < deadline)) || fail "node-$i (process $pid) was killed, and does not end"
            sleep 0.05
        done
        deadline=$((SECONDS + 3))
        for port in "900$i" "808$i"; do
            while is_taken "$port"; do
                ((SECONDS < deadline)) ||
                    fail "127.0.0.1:$port, which is for node-$i, is taken by another process: end that first (ss -ltnp shows it)"
                sleep 0.1
            done
        done
    done
}

# Refuses to leave out nodes that were here before: the cluster would count them still, and show them as dead.
refuse_fewer() {
    local i last beyond=() directories=()
    for ((i = nodes; i < NODES_MAX; i++)); do
        if [[ -e $mesh_dir/$i ]]; then
            last=$i
            beyond+=("node-$i")
            directories+=("$mesh_dir/$i")
        fi
    done
    ((${#beyond[@]})) || return 0
    fail "$mesh_dir has data of ${beyond[*]} too: members stay members, and would be dead to the $nodes others.
To start them all: $0 up $((last + 1))
To begin anew: $0 down --wipe
If they have been removed from the cluster: rm -r ${directories[*]}" 2
}

# Ends what this run has started, however it was interrupted.
clean_up() {
    rm -f "$table"
    ((${#started[@]})) || return 0
    printf 'ending the nodes that were started\n' >&2
    end TERM "${started[@]}" >&2 || true
}

up() {
    local i
    nodes=${1:-$(cat "$mesh_dir/nodes" 2>/dev/null || printf '%d' "$NODES_DEFAULT")}
    if ! [[ $nodes =~ ^[1-9]$ ]] || ((nodes > NODES_MAX)); then
        fail "the number of nodes must be from 1 to $NODES_MAX, and is $nodes" 2
    fi
    refuse_fewer
    refuse_taken
    mkdir -p "$mesh_dir"
    table=$mesh_dir/members.txt
    started=()
    # What would make another mesh of it.
    unset LISTEN_ADDR SEEDS EXPECT BOOTSTRAP BIND_ADDR BIND_PORT ADVERTISE_ADDR FLY_PRIVATE_IP
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    for ((i = 0; i < nodes; i++)); do
        if ! pid_of "$i" >/dev/null; then
            started+=("$i")
            start "$i"
        fi
    done
    if ! ((${#started[@]})); then
        printf 'all %d nodes run already; see them: %s status, end them: %s down\n' "$nodes" "$0" "$0"
        return
    fi
    printf 'started %d of %d nodes; waiting for the cluster\n' "${#started[@]}" "$nodes"
    await_formed || exit 1
    started=()
    printf '%d\n' "$nodes" >"$mesh_dir/nodes"
    cat "$table"
    what_next
}

# A command as one types it: short if that finds the same program.
short() {
    if [[ $(command -v "${1##*/}") == "$1" ]]; then printf '%s' "${1##*/}"; else printf '%s' "$1"; fi
}

what_next() {
    local cli last=$((nodes - 1)) me=$0
    cli=$(short "$phalanx")
    cat <<END

Write at one node, read at another:
  $cli put hello mesh --addr $(address 0)
  $cli get hello --addr $(address "$last")
END
    if ((last > 0)); then
        cat <<END
See one die and come back:
  kill -9 \$(cat $(pid_file "$last")); sleep 10; $me status
  $me up
END
    fi
    cat <<END
End them all (down --wipe removes their data too):
  $me down
END
}

# ---- stop, down, status ----

stop() {
    local i signal=TERM
    if [[ ${1-} == --kill ]]; then
        signal=KILL
        shift
    fi
    (($#)) || fail "stop takes the numbers of nodes" 2
    for i in "$@"; do
        [[ $i =~ ^[0-8]$ ]] || fail "the number of a node is from 0 to $((NODES_MAX - 1)), and not $i" 2
        pid_of "$i" >/dev/null || fail "node-$i of $mesh_dir does not run (MESH_DIR)"
    done
    end "$signal" "$@" || exit 1
    printf 'ended node-%d\n' "$@"
}

down() {
    local found i
    [[ ${1-} == "" || ${1-} == --wipe ]] || fail "down takes --wipe or nothing" 2
    read -ra found <<<"$(running)"
    if ((${#found[@]})); then
        end TERM "${found[@]}" || exit 1
        printf 'ended node-%d\n' "${found[@]}"
    else
        printf 'no node of %s runs (MESH_DIR)\n' "$mesh_dir"
    fi
    if [[ ${1-} == --wipe ]]; then
        for ((i = 0; i < NODES_MAX; i++)); do
            rm -rf "${mesh_dir:?}/$i"
            rm -f "$(pid_file "$i")" "$(log_file "$i")"
        done
        rm -f "$mesh_dir/nodes" "$mesh_dir/members.txt"
        # Only if nothing else is in it.
        rmdir "$mesh_dir" 2>/dev/null || true
        printf 'removed their data from %s\n' "$mesh_dir"
    fi
}

status() {
    local addresses=() i
    for i in $(running); do
        addresses+=("$(address "$i")")
    done
    ((${#addresses[@]})) || fail "no node of $mesh_dir runs (MESH_DIR); to start them: $0 up"
    local IFS=,
    "$phalanx" members --addr "${addresses[*]}"
}

case ${1-} in
up | status)
    find_programs
    "$@"
    ;;
stop | down) "$@" ;;
-h | -help | --help | help) usage ;;
*)
    usage >&2
    exit 2
    ;;
esac
