#!/bin/sh
# Becomes the node of a machine of Fly.io: finds out its name, its region and where the others are, and executes the server.
#
# What holds whatever the name server answers, if it answers at all:
# - The size of the first cluster is EXPECT, which fly.toml says, and never the number of machines that were found. A machine
#   that finds nobody waits (/health says `forming`), and goes on looking.
# - What is told of the others is where to look for them. Who they are, the nodes ask each other.
set -eu

# Fly's name server answers within milliseconds. One that does not is not waited for: the server asks again itself.
LOOKUP_WITHIN_S=10
GOSSIP_PORT=7946
# The server takes up to 64.
SEEDS_MAX=60

say() {
    printf 'start.sh: %s\n' "$*" >&2
}

fail() {
    say "$@"
    exit 2
}

is_number() {
    case $1 in
    '' | *[!0-9]*) return 1 ;;
    esac
}

# The machine's own environment, and what fly.toml must say.
check_environment() {
    for variable in FLY_APP_NAME FLY_MACHINE_ID FLY_PRIVATE_IP; do
        eval "value=\${$variable:-}"
        [ -n "$value" ] || fail "$variable is not set: this is for machines of Fly.io; elsewhere run phalanx-server"
    done
    if [ "${BOOTSTRAP:-auto}" != never ]; then
        is_number "${EXPECT:-}" || fail "EXPECT is \`${EXPECT:-}\`: set it in fly.toml, under [env], to the number of \
machines that form the first cluster, the same for all"
    fi
}

# The IPv6 addresses of a name, or of an address in its one usual form, one a line.
look_up() {
    timeout "$LOOKUP_WITHIN_S" getent ahostsv6 "$1" | awk '$2 == "STREAM" && $1 !~ /^::ffff:/ { print $1 }'
}

# The addresses of the other machines that run. Never this one's own: alone, it has no seeds but the name.
addresses() {
    look_up "$FLY_APP_NAME.internal" | grep -vxF "$(look_up "$FLY_PRIVATE_IP")" | head -n "$SEEDS_MAX"
}

# The names of the other machines, those that are stopped too, one a line. The record is `id region,id region`.
names() {
    command -v dnsget >/dev/null || return 0
    timeout "$LOOKUP_WITHIN_S" dnsget -qq -t txt "all.vms.$FLY_APP_NAME.internal" |
        tr ',' '\n' | awk -v own="$FLY_MACHINE_ID" '$1 ~ /^[0-9a-z]+$/ && $1 != own && !($1 in seen) { seen[$1]; print $1 }'
}

# The addresses are asked at once, and without a name server. The name is looked up again for as long as the server runs: so
# it finds machines that were started later, and those whose address is another one since they were restarted.
seeds() {
    for address in $1; do
        printf '[%s]:%d,' "$address" "$GOSSIP_PORT"
    done
    printf '%s.internal:%d' "$FLY_APP_NAME" "$GOSSIP_PORT"
}

# With names the server can say in its log for whom it waits; nothing else hangs on them. It would refuse more of them than
# EXPECT bears, as there are when the cluster has grown.
peers() {
    # shellcheck disable=SC2086 # They are to be counted.
    set -- $1
    [ "$#" -lt "${EXPECT:-1}" ] || return 0
    (
        IFS=,
        printf '%s' "$*"
    )
}

tell_timing() {
    tick=${TICK_MS:-200} heartbeat=${HEARTBEAT:-5} election=${ELECTION:-20}
    # Which of them is wrong, the server says.
    is_number "$tick" && is_number "$heartbeat" && is_number "$election" || return 0
    say "timing: a tick of $tick ms, a heartbeat every $((tick * heartbeat)) ms, an election after" \
        "$((tick * election)) to $((tick * election * 5 / 4)) ms without a leader"
}

check_environment
found_addresses=$(addresses) || true
found_names=$(names) || true
[ -n "$found_addresses" ] || say "no other machine of $FLY_APP_NAME.internal is known yet: it is looked up again and again"

NODE_ID=$FLY_MACHINE_ID
REGION=${FLY_REGION:-}
SEEDS=$(seeds "$found_addresses")
PEERS=$(peers "$found_names")
# The server tells the others FLY_PRIVATE_IP, and listens on all addresses, of which that is one (fly-local-6pn).
LISTEN_ADDR=${LISTEN_ADDR:-[::]:9000}
BIND_ADDR=${BIND_ADDR:-::}
DATA_DIR=${DATA_DIR:-/data}
export NODE_ID REGION SEEDS PEERS LISTEN_ADDR BIND_ADDR DATA_DIR

say "node $NODE_ID in ${REGION:-no region}, at [$FLY_PRIVATE_IP]; expects ${EXPECT:-a cluster that exists}; peers: ${PEERS:-none by name}; seeds: $SEEDS"
tell_timing
exec phalanx-server
