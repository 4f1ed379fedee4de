#!/usr/bin/env bash
# Five regions, one node in each: what puts and linearizable gets take from every region, against the floor that the
# distances set, and how long nobody leads after the leader is killed or cut off. Phalanx, then etcd, one after the
# other.
#
# Needs root, for network namespaces, and `cargo build --release --workspace`. The distances come from `tc netem`, or,
# where the kernel has none, from an emulator whose program is named by WANEM (see bench/README.md). All is removed at
# the end.
set -euo pipefail

SECONDS_EACH=${SECONDS_EACH:-15}
TRIES=${TRIES:-3}
SYSTEMS=${SYSTEMS:-phalanx etcd}
# How far into an outage's run the leader goes, and how long the run is.
OUTAGE_AT_S=5
OUTAGE_RUN_S=30

REGIONS=(jnb lhr ord sin fra)
declare -A RTT_MS=(
    [jnb-lhr]=160 [jnb-ord]=225 [jnb-sin]=300 [jnb-fra]=165 [lhr-ord]=90
    [lhr-sin]=165 [lhr-fra]=14 [ord-sin]=215 [ord-fra]=100 [sin-fra]=160
)

root=$(cd "$(dirname "$0")/.." && pwd)
bin=${PHALANX_BIN_DIR:-$root/target/release}
bench=$bin/phalanx-bench
etcd=${ETCD:-$(command -v etcd || true)}
# Of this run alone: several may run at once.
prefix=pb$$
scratch=$(mktemp -d "${WAN_DIR:-$PWD}/phalanx-wan-XXXXXX")
declare -A pid_of=()
# The round trips as they are, what the emulation itself takes included.
declare -A measured_ms=()
emulator=

fail() {
    printf 'wan: %s\n' "$1" >&2
    exit 1
}

# ---- The network. ----

rtt_ms() {
    if [[ $1 == "$2" ]]; then printf 0; else printf '%s' "${RTT_MS[$1-$2]-${RTT_MS[$2-$1]}}"; fi
}

# By ping, where it is installed; else they are taken for what they should be.
measure_round_trips() {
    local pair a b ms
    for pair in "${!RTT_MS[@]}"; do
        a=${pair%-*} b=${pair#*-}
        ms=$(in_region "$a" ping -q -c 10 -i 0.1 "$(ip_of "$b")" 2>/dev/null |
            awk -F/ '/^rtt/ { print $5 }' || true)
        measured_ms[$pair]=${ms:-${RTT_MS[$pair]}}
        printf '%s %s ms  ' "$pair" "${measured_ms[$pair]}"
    done
    printf '\n'
}

measured_ms() {
    if [[ $1 == "$2" ]]; then printf 0; else printf '%s' "${measured_ms[$1-$2]-${measured_ms[$2-$1]}}"; fi
}

ip_of() {
    local i
    for i in "${!REGIONS[@]}"; do
        [[ ${REGIONS[i]} != "$1" ]] || printf '10.77.0.%d' $((i + 1))
    done
}

region_of() {
    local region
    for region in "${REGIONS[@]}"; do
        [[ $1 != "$(ip_of "$region")":* ]] || printf '%s' "$region"
    done
}

in_region() {
    local region=$1
    shift
    ip netns exec "$prefix-$region" "$@"
}

has_netem() {
    ip netns add "$prefix-hub"
    ip netns exec "$prefix-hub" ip link set lo up
    ip netns exec "$prefix-hub" tc qdisc add dev lo root netem delay 1ms 2>/dev/null || {
        ip netns del "$prefix-hub"
        return 1
    }
    ip netns exec "$prefix-hub" tc qdisc del dev lo root
}

# A switch in a namespace of its own, and half of each round trip on the way out of either end.
up_netem() {
    local a b i
    ip -n "$prefix-hub" link add switch type bridge
    ip -n "$prefix-hub" link set switch up
    for a in "${REGIONS[@]}"; do
        ip netns add "$prefix-$a"
        ip link add wan0 netns "$prefix-$a" type veth peer name "port-$a" netns "$prefix-hub"
        ip -n "$prefix-hub" link set "port-$a" master switch up
        ip -n "$prefix-$a" link set lo up
        ip -n "$prefix-$a" addr add "$(ip_of "$a")/24" dev wan0
        ip -n "$prefix-$a" link set wan0 up
        # What matches no filter, as ARP, goes through the first band, which has no delay.
        in_region "$a" tc qdisc add dev wan0 root handle 1: prio bands 6 priomap 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
        i=1
        for b in "${REGIONS[@]}"; do
            [[ $a != "$b" ]] || continue
            i=$((i + 1))
            in_region "$a" tc qdisc add dev wan0 parent "1:$i" handle "$i"0: \
                netem limit 20000 delay $(($(rtt_ms "$a" "$b") * 500))us
            in_region "$a" tc filter add dev wan0 protocol ip parent 1: prio 1 u32 \
                match ip dst "$(ip_of "$b")/32" flowid "1:$i"
        done
    done
}

up_emulator() {
    local a b
    export WANEM_SOCK=$scratch/wanem.sock WANEM_PREFIX=$prefix-
    {
        printf 'nohalt on\n'
        for a in "${REGIONS[@]}"; do printf 'node %s %s -\n' "$a" "$(ip_of "$a")"; done
        for a in "${!RTT_MS[@]}"; do
            b=${a#*-}
            printf 'rtt %s %s %s\n' "${a%-*}" "$b" "${RTT_MS[$a]}"
        done
    } >"$scratch/wan.conf"
    "$WANEM" up "$scratch/wan.conf" >"$scratch/wanem.log" 2>&1 &
    emulator=$!
    "$WANEM" wait 10 >/dev/null || fail "the emulator did not start: $(cat "$scratch/wanem.log")"
}

cut_off() {
    if [[ -n $emulator ]]; then
        "$WANEM" ctl "isolate $1" >/dev/null
    else
        ip -n "$prefix-hub" link set "port-$1" nomaster
    fi
}

heal() {
    if [[ -n $emulator ]]; then
        "$WANEM" ctl heal >/dev/null
    else
        ip -n "$prefix-hub" link set "port-$1" master switch
    fi
}

# ---- The nodes. ----

addresses() {
    local region list=()
    for region in "${REGIONS[@]}"; do list+=("$(ip_of "$region"):2379"); done
    local IFS=,
    printf '%s' "${list[*]}"
}

# The nodes as name SEPARATOR address, with a port, comma-separated.
named() {
    local region list=()
    for region in "${REGIONS[@]}"; do list+=("$region$1$(ip_of "$region"):$2"); done
    local IFS=,
    printf '%s' "${list[*]}"
}

# Starts a region's node: SYSTEM, and its timings (of Phalanx TICK_MS HEARTBEAT ELECTION, of etcd both in ms).
start_node() {
    local region=$1 system=$2 address
    shift 2
    address=$(ip_of "$region")
    # In the place of the subshell, that its id is the node's.
    if [[ $system == phalanx ]]; then
        NODE_ID=$region PEERS=$(named @ 2379) DATA_DIR=$scratch/$region LISTEN_ADDR=$address:2379 BIND_ADDR=$address \
            DEBUG_ADDR=none TICK_MS=$1 HEARTBEAT=$2 ELECTION=$3 \
            ip netns exec "$prefix-$region" "$bin/phalanx-server" >>"$scratch/$region.log" 2>&1 &
    else
        ip netns exec "$prefix-$region" "$etcd" --name "$region" --data-dir "$scratch/$region" \
            --heartbeat-interval "$1" --election-timeout "$2" --initial-cluster-state new \
            --listen-client-urls "http://$address:2379" --advertise-client-urls "http://$address:2379" \
            --listen-peer-urls "http://$address:2380" --initial-advertise-peer-urls "http://$address:2380" \
            --initial-cluster "$(named '=http://' 2380)" >>"$scratch/$region.log" 2>&1 &
    fi
    pid_of[$region]=$!
}

end_node() {
    kill -9 "${pid_of[$1]}" 2>/dev/null || true
    wait "${pid_of[$1]}" 2>/dev/null || true
    unset "pid_of[$1]"
}

end_nodes() {
    local region
    for region in "${!pid_of[@]}"; do end_node "$region"; done
    for region in "${REGIONS[@]}"; do rm -rf "${scratch:?}/$region" "$scratch/$region.log"; done
}

# The region of the leader, once all nodes know it.
leader() {
    local address
    address=$(in_region lhr "$bench" leader --target "$1" --addr "$(addresses)" --within 120)
    region_of "$address"
}

clean_up() {
    local region
    end_nodes
    if [[ -n $emulator ]]; then
        kill "$emulator" 2>/dev/null || true
        wait "$emulator" 2>/dev/null || true
    fi
    for region in hub "${REGIONS[@]}"; do ip netns del "$prefix-$region" 2>/dev/null || true; done
    rm -rf "$scratch"
}

# ---- What is measured. ----

# Round trip to the second nearest of the others (with the leader, they are three of five), and to the leader.
floor_ms() {
    local leader=$1 region=$2 other quorum
    quorum=$(for other in "${REGIONS[@]}"; do
        [[ $other == "$leader" ]] || { measured_ms "$leader" "$other" && echo; }
    done | sort -n | sed -n 2p)
    awk "BEGIN { print $quorum + $(measured_ms "$leader" "$region") }"
}

# From all regions at once, each through its own node.
steady() {
    local system=$1 leader=$2 region operation loads=()
    for operation in put get; do
        loads=()
        for region in "${REGIONS[@]}"; do
            in_region "$region" "$bench" load --target "$system" --addr "$(ip_of "$region"):2379" --op "$operation" \
                --seconds "$SECONDS_EACH" --warm-up 3 >"$scratch/$region-$operation.txt" &
            loads+=($!)
        done
        wait "${loads[@]}"
    done
    printf '%-8s %-7s %9s %28s %28s\n' '' '' 'floor' 'put p50 ms (- floor)    p99' 'get p50 ms (- floor)    p99'
    for region in "${REGIONS[@]}"; do
        awk -v name="$system" -v region="$region" -v floor="$(floor_ms "$leader" "$region")" '
            $1 == "all" { p50[n] = $3; p99[n++] = $6 }
            END { printf "%-8s %-7s %9.1f %12.1f (%+5.2f) %7.1f %12.1f (%+5.2f) %7.1f\n", name, region, floor,
                p50[0], p50[0] - floor, p99[0], p50[1], p50[1] - floor, p99[1] }' n=0 \
            "$scratch/$region-put.txt" "$scratch/$region-get.txt"
    done
}

# Puts at a fixed rate at a region that stays, while the leader goes: the longest time without an answer.
outage() {
    local system=$1 how=$2 leader region load try
    shift 2
    for ((try = 1; try <= TRIES; try++)); do
        leader=$(leader "$system")
        region=lhr
        [[ $leader != lhr ]] || region=fra
        in_region "$region" "$bench" load --target "$system" --addr "$(ip_of "$region"):2379" --op put --rate 20 \
            --clients 200 --seconds "$OUTAGE_RUN_S" --timeout-ms 5000 --keep-going >"$scratch/outage.txt" &
        load=$!
        sleep "$OUTAGE_AT_S"
        if [[ $how == kill ]]; then end_node "$leader"; else cut_off "$leader"; fi
        wait "$load"
        printf '%-8s %-4s leader %s, seen from %s: %s\n' "$system" "$how" "$leader" "$region" \
            "$(sed -n 's/^longest time without an answer: //p; s/^\([0-9]* failed\)$/(\1)/p' "$scratch/outage.txt" |
                xargs)"
        if [[ $how == kill ]]; then start_node "$leader" "$system" "$@"; else heal "$leader"; fi
    done
}

# A whole cluster with these timings: SYSTEM, what else to measure (steady or not), timings.
measure() {
    local system=$1 what=$2 region leader
    shift 2
    printf '\n== %s, timings %s\n' "$system" "$*"
    for region in "${REGIONS[@]}"; do start_node "$region" "$system" "$@"; done
    leader=$(leader "$system")
    printf 'the leader is in %s\n' "$leader"
    [[ $what != steady ]] || steady "$system" "$leader"
    outage "$system" kill "$@"
    outage "$system" cut "$@"
    end_nodes
}

((EUID == 0)) || fail "network namespaces need root"
[[ -x $bench && -x $bin/phalanx-server ]] ||
    fail "$bin has no phalanx-bench and phalanx-server: cargo build --release --workspace"
[[ " $SYSTEMS " != *" etcd "* || -x $etcd ]] || fail "there is no etcd: see bench/README.md, or set SYSTEMS=phalanx"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if has_netem; then
    up_netem
elif [[ -n ${WANEM-} ]]; then
    up_emulator
else
    fail "this kernel has no netem (modprobe sch_netem?); name an emulator with WANEM (see bench/README.md)"
fi

measure_round_trips
for system in $SYSTEMS; do
    if [[ $system == phalanx ]]; then
        # The defaults: heartbeats every second, elections after four.
        measure phalanx steady 200 5 20
        # As etcd is set below.
        measure phalanx outage 100 3 30
    else
        measure etcd steady 300 3000
    fi
done
