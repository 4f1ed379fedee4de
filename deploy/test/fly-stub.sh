#!/usr/bin/env bash
# Stands in for `fly` in fly.sh: `fly machine start|stop|restart ID... --app phalanx`, with flyctl's options. It records what it
# is called with, refuses what flyctl would not know, and does it to the machines of that world: what fly.toml says of the
# environment, of signals and of checks holds for them.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(realpath "$0")")/common.sh"

printf '%s\n' "$*" >>"$WORLD/calls"

refuse() {
    printf 'Error: %s\n' "$1" >&2
    exit 1
}

# A value of fly.toml.
setting() { sed -n "s/^ *$1 = \"\{0,1\}\([^\"]*\)\"\{0,1\}$/\1/p" "$WORLD/fly.toml"; }

environment() {
    awk '/^\[/ { env = $0 == "[env]" } env && / = "/ { gsub(/[" ]/, ""); print }' "$WORLD/fly.toml"
}

pid_of() {
    local pid
    pid=$(cat "$WORLD/machines/$1/pid" 2>/dev/null) && [[ $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") ]] &&
        printf '%d' "$pid"
}

names() {
    local dir all=
    [[ ! ${NO_NAMES-} ]] || return 0
    for dir in "$WORLD"/machines/*; do
        all+="${all:+,}${dir##*/} $(<"$dir/region")"
        [[ ! -e $dir/started ]] || printf 'host-record=phalanx.internal,%s\n' "$(<"$dir/ip")"
    done >"$WORLD/names.conf"
    # Its strings have up to 255 bytes.
    printf 'txt-record=all.vms.phalanx.internal,"%s"\n' "$all" >>"$WORLD/names.conf"
    [[ ! -e $WORLD/names.pid ]] || kill "$(<"$WORLD/names.pid")" 2>/dev/null || true
    while ! dnsmasq --no-hosts --no-resolv --user=root --bind-interfaces --listen-address=fdaa::3 --pid-file="$WORLD/names.pid" \
        --conf-file="$WORLD/names.conf" --log-facility="$WORLD/names.log" 2>"$WORLD/names.err"; do
        # Its predecessor is there still.
        sleep 0.05
    done
}

start() {
    local id=$1 dir=$WORLD/machines/$1
    ! pid_of "$id" >/dev/null || refuse "machine $id is started"
    : >"$dir/started"
    [[ ! -e $WORLD/names.pid ]] || names
    mapfile -t env < <(environment)
    # start.sh becomes the server, so this is its process too.
    nsenter --net="/run/netns/$id" env -i PATH="$PATH" "${env[@]}" FLY_APP_NAME=phalanx FLY_MACHINE_ID="$id" \
        FLY_REGION="$(<"$dir/region")" FLY_PRIVATE_IP="$(<"$dir/ip")" DATA_DIR="$(<"$dir/volume")" \
        "$(setting app | tail -n 1)" >>"$dir/log" 2>&1 </dev/null &
    printf '%d\n' "$!" >"$dir/pid"
}

stop() {
    local id=$1 pid deadline
    rm -f "$WORLD/machines/$id/started"
    if pid=$(pid_of "$id"); then
        kill -s "${signal:-$(setting kill_signal)}" "$pid"
        deadline=$((SECONDS + $(setting kill_timeout)))
        until has_ended "$pid"; do
            ((SECONDS < deadline)) || kill -KILL "$pid" 2>/dev/null || true
            sleep 0.05
        done
    fi
    [[ ! -e $WORLD/names.pid ]] || names
}

is_healthy() {
    local line
    { exec 3<>"/dev/tcp/$(<"$WORLD/machines/$1/ip")/$(setting port)"; } || return 1
    printf 'GET %s HTTP/1.1\r\nHost: phalanx\r\nConnection: close\r\n\r\n' "$(setting path)" >&3
    read -r line <&3
    exec 3>&-
    [[ $line == *" 200 "* ]]
} 2>/dev/null

# Until its check passes, as flyctl does without --skip-health-checks.
await_health() {
    until is_healthy "$1"; do
        ! has_ended "$(<"$WORLD/machines/$1/pid")" || refuse "machine $1 has ended, and is not healthy"
        sleep 0.1
    done
}

parse() {
    ids=() signal=
    while (($#)); do
        case $1 in
        -a | --app)
            [[ $2 == phalanx ]] || refuse "Could not find App \"$2\""
            shift
            ;;
        -s | --signal) [[ $action != start ]] || refuse "unknown flag: $1" && signal=$2 && shift ;;
        -w | --wait-timeout) [[ $action == stop ]] || refuse "unknown flag: $1" && shift ;;
        -*) refuse "unknown flag: $1" ;;
        *)
            [[ -d $WORLD/machines/$1 ]] || refuse "machine $1 was not found"
            ids+=("$1")
            ;;
        esac
        shift
    done
    ((${#ids[@]})) || refuse "a machine ID must be specified when not running interactively"
}

if [[ ${1-} == names ]]; then
    names
    exit
fi
[[ ${1-} == machine && ${2-} =~ ^(start|stop|restart)$ ]] || refuse "unknown command \"$*\""
action=$2
shift 2
parse "$@"
for id in "${ids[@]}"; do
    case $action in
    start | stop) "$action" "$id" ;;
    restart)
        stop "$id"
        start "$id"
        await_health "$id"
        ;;
    esac
done
