#!/usr/bin/env bash
# Chaos: takes nodes of a cluster down and brings them back, round after round, while writers write without a pause. After
# each round every write that was acknowledged is read at a random node.
#
# It promises:
# - Never are more nodes down than leave a majority, and no round begins before all nodes have caught up.
# - What is said to be lost is lost: acknowledged, and not there in a linearizable read that began later.
# - However it ends, its writers end, and the nodes that it took down are brought back; these not if it is killed by SIGKILL.
#
# It needs bash 5, awk, setsid, and the command line `phalanx`; and `fly`, `docker` or scripts/local-mesh.sh to restart nodes with.
set -euo pipefail
export LC_ALL=C

WRITE_WITHIN=10s
# So many acknowledgements show that the cluster goes on while nodes are down.
PROGRESS_WRITES=25
PROGRESS_WITHIN_S=60
STOPPED_WITHIN_S=90
WHOLE_WITHIN_S=300
# Until it is said what is waited for.
TOLD_AFTER_S=10
READ_WITHIN_S=60

root=$(cd "$(dirname "$0")/.." && pwd)

usage() {
    cat <<END
Usage: scripts/chaos.sh APP ADDR [OPTIONS]

  APP     what to restart: the app on Fly.io, the project of docker compose, or MESH_DIR of scripts/local-mesh.sh
  ADDR    one node or several to begin with, as host:port,...; the others are found through them

  --target fly|docker|local    where the nodes run (fly)
  --rounds N                   how many rounds (20)
  --seed N                     repeats the choice of nodes of another run (random)
  --down N                     how many are down at once (one or two, by chance); never a majority
  --kill                       ends them with SIGKILL, not with SIGTERM
  --rolling                    a round restarts all of them, one after the other
  --max-gap MS                 fails if no write was acknowledged for longer than that
  --writers N                  how many writers there are (5)
  --keep                       leaves the keys that it wrote, which begin with chaos/, in the cluster

  PHALANX_BIN_DIR              where phalanx is (target/release, target/debug, PATH)

Exit codes: 0 nothing was lost, 1 something was, or the cluster did not go on, 2 wrong usage, 130 interrupted (129,
141, 143: by SIGHUP, SIGPIPE, SIGTERM).

  scripts/chaos.sh phalanx "[fdaa::1]:9000"
  scripts/chaos.sh ./data 127.0.0.1:9000 --target local --rounds 5 --down 2 --kill
END
}

say() { printf '%s\n' "$*"; }

fail() {
    printf 'chaos: %s\n' "$1" >&2
    exit "${2:-1}"
}

# ---- What is asked for. ----

number() {
    if ! [[ $2 =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3)); then fail "$1 must be a number from $3 on, and is \`$2\`" 2; fi
}

parse() {
    local words=()
    target=fly rounds=20 seed=$((SRANDOM % 1000000)) down=0 signal=SIGTERM rolling='' max_gap_ms=0 writers=5 keep=''
    while (($#)); do
        case $1 in
        --kill) signal=SIGKILL ;;
        --rolling) rolling=1 ;;
        --keep) keep=1 ;;
        --target | --rounds | --seed | --down | --max-gap | --writers)
            (($# > 1)) || fail "$1 needs a value" 2
            take "$1" "$2"
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        -*) fail "there is no option $1; --help tells of those that there are" 2 ;;
        *) words+=("$1") ;;
        esac
        shift
    done
    if ((${#words[@]} != 2)); then
        usage >&2
        exit 2
    fi
    app=${words[0]} given_addresses=${words[1]}
    [[ ! $rolling || $signal == SIGTERM && $down == 0 ]] || fail "--rolling goes without --kill and --down" 2
}

take() {
    case $1 in
    --target)
        [[ $2 =~ ^(fly|docker|local)$ ]] || fail "--target is fly, docker or local, and not \`$2\`" 2
        target=$2
        ;;
    --rounds) number "$1" "$2" 1 && rounds=$2 ;;
    --seed) number "$1" "$2" 0 && seed=$2 ;;
    --down) number "$1" "$2" 1 && down=$2 ;;
    --max-gap) number "$1" "$2" 1 && max_gap_ms=$2 ;;
    --writers) number "$1" "$2" 1 && writers=$2 ;;
    esac
}

find_phalanx() {
    local dir
    for dir in ${PHALANX_BIN_DIR:+"$PHALANX_BIN_DIR"} "$root/target/release" "$root/target/debug"; do
        [[ -x $dir/phalanx ]] && phalanx=$dir/phalanx && return
    done
    phalanx=$(command -v phalanx) || fail "there is no phalanx: put it into the PATH, or set PHALANX_BIN_DIR" 2
}

# ---- Where the nodes run. Each target stops, starts and restarts nodes by name, and may know better addresses. ----

# Runs a command of a target. What it prints is of interest if it fails. It is in a session of its own, where Ctrl-C does not
# reach it: half done, it would leave nodes that go down when they were already brought back.
run() {
    if ! setsid --wait "$@" >"$work/command.log" 2>&1; then
        cat "$work/command.log" >&2
        fail "this failed: $*"
    fi
}

fly_check() {
    fly=$(command -v fly || command -v flyctl) || fail "there is no fly: https://fly.io/docs/flyctl/install" 2
}
# A machine that was asked to stop stays down, whatever the signal. After \`fly machine kill\` its restart policy would bring it
# back at once.
fly_stop() { run "$fly" machine stop "$@" --app "$app" --signal "$signal" --wait-timeout "${STOPPED_WITHIN_S}s"; }
fly_start() { run "$fly" machine start "$@" --app "$app"; }
fly_restart() { run "$fly" machine restart "$@" --app "$app"; }
fly_address() { :; }

docker_check() {
    command -v docker >/dev/null || fail "there is no docker" 2
    [[ $(containers "*") ]] || fail "there are no containers of a compose project named $app (docker compose ls)" 2
}
# Prints the containers of these services; of all for *.
containers() {
    local name filter
    for name in "$@"; do
        filter=com.docker.compose.service=$name
        [[ $name != "*" ]] || filter=com.docker.compose.service
        docker ps --all --quiet --filter "label=com.docker.compose.project=$app" --filter "label=$filter"
    done
}
docker_stop() {
    local ids
    mapfile -t ids < <(containers "$@")
    if [[ $signal == SIGKILL ]]; then
        run docker kill --signal KILL "${ids[@]}"
        run docker wait "${ids[@]}"
    else
        run docker stop -t "$STOPPED_WITHIN_S" "${ids[@]}"
    fi
}
docker_start() {
    local ids
    mapfile -t ids < <(containers "$@")
    run docker start "${ids[@]}"
}
docker_restart() {
    local ids
    mapfile -t ids < <(containers "$@")
    run docker restart -t "$STOPPED_WITHIN_S" "${ids[@]}"
}
# A port that is published on this machine, for the network of the containers may be out of reach.
docker_address() {
    local id
    id=$(containers "$1")
    docker port "$id" 9000/tcp 2>/dev/null | sed -n 's/^\(0\.0\.0\.0\|127\.0\.0\.1\):\([0-9]*\)$/127.0.0.1:\2/p' | head -n 1
}

local_check() {
    [[ -x $root/scripts/local-mesh.sh ]] || fail "there is no $root/scripts/local-mesh.sh" 2
    [[ -d $app ]] || fail "there is no directory $app: give MESH_DIR of scripts/local-mesh.sh, which is ./data by default" 2
}
mesh() { MESH_DIR=$app run "$root/scripts/local-mesh.sh" "$@"; }
local_stop() {
    local how=()
    [[ $signal != SIGKILL ]] || how=(--kill)
    mesh stop "${how[@]}" "${@#node-}"
}
# Starts all that do not run: they are these.
local_start() { mesh up; }
local_restart() { mesh stop "${@#node-}" && mesh up; }
local_address() { :; }

# ---- The cluster. ----

# Prints name, role, state, region and address of each member, as the nodes at these addresses see it.
members() {
    "$phalanx" members --addr "$1" --timeout 5s 2>"$work/members.log" |
        awk '$2 ~ /^[0-9]+$/ && $3 ~ /^(leader|voter|learner)$/ { print $1, $3, $4, $5, $6 }'
}

# Looks who is there and where: fills `names`, `role_of`, `state_of`, `region_of` and `address_of`.
look() {
    local name role state region address known
    known=$given_addresses
    [[ ! -s $work/addresses ]] || known=$(paste -sd, "$work/addresses"),$known
    names=()
    declare -gA role_of=() state_of=() region_of=() address_of=()
    while read -r name role state region address; do
        known=$("${target}_address" "$name")
        names+=("$name")
        # A node without a region is a region of its own.
        [[ $region != - ]] || region=$name
        role_of[$name]=$role state_of[$name]=$state region_of[$name]=$region address_of[$name]=${known:-$address}
    done < <(members "$known")
    ((${#names[@]})) || return 1
    printf '%s\n' "${address_of[@]}" | grep -v '^-$' >"$work/addresses.new" || return 1
    mv "$work/addresses.new" "$work/addresses"
}

voters() {
    local name count=0
    for name in "${names[@]}"; do
        [[ ${role_of[$name]} == learner ]] || count=$((count + 1))
    done
    printf '%d' "$count"
}

# Whether all nodes are there, alive, and have caught up: each reads what is committed.
is_whole() {
    local name code
    look && ((${#names[@]} == size)) || return 1
    for name in "${names[@]}"; do
        [[ ${state_of[$name]} == alive ]] || { missing="$name is ${state_of[$name]}" && return 1; }
    done
    for name in "${names[@]}"; do
        code=0
        "$phalanx" get "${prefix}none" --addr "${address_of[$name]}" --timeout 5s >/dev/null 2>"$work/get.log" || code=$?
        # There is no such key, says the node.
        ((code == 1)) || { missing="$name: $(<"$work/get.log")" && return 1; }
    done
}

await_whole() {
    local deadline=$((SECONDS + WHOLE_WITHIN_S)) told=$((SECONDS + TOLD_AFTER_S))
    until is_whole; do
        if ((SECONDS >= told)); then
            say "waiting for all $size nodes: ${missing:-no node tells of them}"
            told=$((SECONDS + WHOLE_WITHIN_S))
        fi
        ((SECONDS < deadline)) || fail "not all $size nodes are there after $WHOLE_WITHIN_S s: ${missing:-no node tells of them}"
        sleep 0.2
    done
}

# ---- The writers. ----

# The checksum of a text, in awk: two sums modulo a prime, as in Adler-32.
# shellcheck disable=SC2016 # It is a program of awk.
CHECKSUM='function checksum(text,   i, a, b) {
    a = 1
    for (i = 1; i <= length(text); i++) {
        a = (a + index("0123456789abcdefghijklmnopqrstuvwxyz/-", substr(text, i, 1))) % 65521
        b = (b + a) % 65521
    }
    return sprintf("%04x%04x", b, a)
}'

# Prints keys and values without end: numbered, and each value with the checksum of what stands before it.
texts() {
    awk -v base="$prefix$1/" "$CHECKSUM"'
        BEGIN { for (n = 1; ; n++) { key = base n; print key, key ":" checksum(key) } }'
}

# The nodes' addresses with commas between, beginning with the one of that number.
addresses_from() {
    local all first
    mapfile -t all <"$work/addresses"
    first=$(($1 % ${#all[@]}))
    local IFS=,
    joined="${all[*]:first},${all[*]:0:first}"
}

# Whether the script has not ended, in whatever way.
goes_on() {
    local state
    read -r _ _ state _ <"/proc/$$/stat" && [[ $state != Z ]]
} 2>/dev/null

# A writer: writes one key after the other, and notes what became of each. It goes to the same node first each time, the other
# writers to others: so a node that is slow to answer, as one that has just started and knows no leader yet, holds up one of
# them and not all.
write_on() {
    local writer=$1 key value begun
    while [[ ! -e $work/stop ]] && goes_on && read -r key value; do
        addresses_from "$writer"
        begun=$EPOCHREALTIME
        if "$phalanx" put "$key" "$value" --addr "$joined" --timeout "$WRITE_WITHIN" >/dev/null 2>"$work/error.$writer"; then
            printf '%s %s %s %s\n' "$EPOCHREALTIME" "$key" "$value" "$begun" >>"$work/acknowledged.$writer"
            continue
        fi
        # Only what the client knows not to have been executed counts as refused.
        if grep -qE 'was not executed|was refused' "$work/error.$writer"; then
            printf '%s\n' "$key" >>"$work/refused.$writer"
        else
            printf '%s\n' "$key" >>"$work/unknown.$writer"
        fi
        cat "$work/error.$writer" >>"$work/errors"
        # So that a cluster which refuses at once is not asked without a pause.
        sleep 0.2
    done < <(texts "$writer")
}

start_writers() {
    local writer
    writer_pids=()
    for ((writer = 0; writer < writers; writer++)); do
        touch "$work/acknowledged.$writer" "$work/refused.$writer" "$work/unknown.$writer"
        write_on "$writer" &
        writer_pids+=("$!")
    done
}

# Each ends with the write that is under way.
stop_writers() {
    : >"$work/stop"
    wait "${writer_pids[@]}" || true
    writer_pids=()
}

count() { cat "$work/$1".* 2>/dev/null | wc -l; }

# Waits until writes go through.
await_progress() {
    local begun goal deadline=$((SECONDS + PROGRESS_WITHIN_S))
    begun=$(count acknowledged)
    goal=$((begun + PROGRESS_WRITES))
    until (($(count acknowledged) >= goal)); do
        ((SECONDS < deadline)) ||
            fail "only $(($(count acknowledged) - begun)) writes were acknowledged in $PROGRESS_WITHIN_S s, $1; the last error: \
$(tail -n 1 "$work/errors" 2>/dev/null || printf none)"
        sleep 0.05
    done
}

# ---- Reading what was acknowledged. ----

# Reads all that was written, by a linearizable read at this node.
read_all() {
    local deadline=$((SECONDS + READ_WITHIN_S))
    until "$phalanx" list "$prefix" --addr "${address_of[$1]}" --timeout 10s >"$work/found" 2>"$work/read.log"; do
        ((SECONDS < deadline)) || fail "$1 cannot be read after $READ_WITHIN_S s: $(<"$work/read.log")"
        sleep 0.2
    done
}

# Compares what was found with what was acknowledged before the read began. Prints what is wrong, a line for each key.
compare() {
    awk "$CHECKSUM"'
        FILENAME ~ /expected$/ { expected[$2] = $3; next }
        FILENAME ~ /refused$/  { refused[$1]; next }
        {
            found[$1]
            if ($2 != $1 ":" checksum($1)) print "damaged: " $1 " is " $2 ", whose checksum is not that of its key"
            else if ($1 in refused) print "wrong: " $1 " is there, though its write was said not to have been executed"
        }
        END { for (key in expected) if (!(key in found)) print "lost: " key " was acknowledged, and is not there" }
    ' "$work/expected" "$work/refused" FS='\t' "$work/found" | sort
}

verify() {
    local reader=$1
    cat "$work"/acknowledged.* >"$work/expected"
    read_all "$reader"
    cat "$work"/refused.* >"$work/refused"
    compare >"$work/problems"
    checked=$(wc -l <"$work/expected")
    [[ ! -s $work/problems ]] || {
        head -n 20 "$work/problems" >&2
        fail "$(wc -l <"$work/problems") keys are not as they should be, read at $reader (${region_of[$reader]}) in round $round; \
all of them: $work/problems"
    }
}

# ---- The rounds. ----

# Sets `shuffled` to the names in random order. (Not in a subshell: its RANDOM would be lost.)
shuffle() {
    local i j swap
    shuffled=("${names[@]}")
    for ((i = ${#shuffled[@]} - 1; i > 0; i--)); do
        j=$((RANDOM % (i + 1)))
        swap=${shuffled[i]} shuffled[i]=${shuffled[j]} shuffled[j]=$swap
    done
}

# Sets `victims`: nodes of different regions.
choose() {
    local name wanted=$down taken=' '
    ((wanted)) || wanted=$((1 + RANDOM % 2))
    ((wanted <= tolerated)) || wanted=$tolerated
    shuffle
    victims=()
    for name in "${shuffled[@]}"; do
        ((${#victims[@]} < wanted)) || break
        [[ $taken != *" ${region_of[$name]} "* ]] || continue
        victims+=("$name")
        taken+="${region_of[$name]} "
    done
    ((${#victims[@]} >= down)) || fail "the nodes are in ${#victims[@]} regions, of which $down cannot be down at once" 2
}

described() {
    local name text=
    for name in "$@"; do
        text+="${text:+, }$name"
        [[ ${region_of[$name]} == "$name" ]] || text+=" (${region_of[$name]})"
    done
    printf '%s' "$text"
}

# Takes some down, has the others go on without them, and brings them back.
outage() {
    choose
    story="$(described "${victims[@]}") down by $signal"
    stopped=("${victims[@]}")
    "${target}_stop" "${victims[@]}"
    await_progress "while these were down: $(described "${victims[@]}")"
    "${target}_start" "${victims[@]}"
    stopped=()
    await_whole
}

# Restarts all, one after the other.
roll() {
    local name
    shuffle
    story="restarted one by one: ${shuffled[*]}"
    for name in "${shuffled[@]}"; do
        stopped=("$name")
        "${target}_restart" "$name"
        stopped=()
        await_whole
        await_progress "after $name had been restarted"
    done
}

play() {
    local before reader
    printf '%s %d\n' "$EPOCHREALTIME" "$round" >>"$work/rounds"
    before=$(count acknowledged)
    if [[ $rolling ]]; then roll; else outage; fi
    reader=${names[RANDOM % ${#names[@]}]}
    verify "$reader"
    say "round $round of $rounds: $story; $(($(count acknowledged) - before)) writes acknowledged; all $checked so far are there," \
        "read at $(described "$reader")"
}

# ---- The end. ----

# Prints the longest time between two acknowledgements, in ms, and the round and the time it ended in.
longest_gap() {
    sort -n "$work/rounds" "$work"/acknowledged.* | awk '
        NF == 2 { round = $2; next }
        last && $1 - last > longest { longest = $1 - last; in_round = round; until = $1 }
        { last = $1 }
        END { printf "%d %d %s\n", longest * 1000, in_round, until }'
}

# Prints how long the slowest write took that was acknowledged, in ms.
slowest() {
    cat "$work"/acknowledged.* | awk '$1 - $4 > longest { longest = $1 - $4 } END { printf "%d", longest * 1000 }'
}

# Prints the account. Whether the gap is too long is part of the verdict.
summary() {
    local gap_ms in_round until acknowledged refused unknown
    acknowledged=$(count acknowledged) refused=$(count refused) unknown=$(count unknown)
    read -r gap_ms in_round until < <(longest_gap)
    say "rounds = $finished of $rounds, seed = $seed"
    say "writes = $((acknowledged + refused + unknown)), acknowledged = $acknowledged, refused = $refused, unknown = $unknown"
    say "longest gap between acknowledgements = $gap_ms ms, in round $in_round, until $(TZ=UTC printf '%(%H:%M:%S)T' "${until%.*}").${until#*.}Z"
    say "slowest acknowledged write = $(slowest) ms"
    touch "$work/problems"
    say "lost = $(grep -c '^lost' "$work/problems" || true)"
    if ((max_gap_ms && gap_ms > max_gap_ms)); then
        printf 'chaos: the longest gap is over --max-gap %d\n' "$max_gap_ms" >&2
        return 1
    fi
}

remove_keys() {
    if [[ ! $keep ]]; then
        "$phalanx" del --prefix "$prefix" --addr "$(paste -sd, "$work/addresses")" --timeout 60s >/dev/null ||
            say "the keys that begin with $prefix could not be removed"
    fi
}

# Brings back what is down, has the writers end, and says how it went; whatever made it end.
finish() {
    local code=$? names_down=("${stopped[@]}")
    trap '' INT TERM HUP PIPE
    set +e
    if ((${#names_down[@]})); then
        say "bringing back $(described "${names_down[@]}")"
        # Some may not have been stopped yet.
        for name in "${names_down[@]}"; do ("${target}_start" "$name") >/dev/null 2>&1; done
    fi
    if ((${#writer_pids[@]})); then
        stop_writers
        ((code <= 2)) ||
            say "it was told to end; what was written since the last round was not read, and all keys stay: phalanx del --prefix $prefix"
        summary || code=1
    fi
    if ((code == 0)); then remove_keys; fi
    if [[ -s $work/problems ]]; then say "what was acknowledged and found: $work"; else rm -rf "$work"; fi
    exit "$code"
}

main() {
    parse "$@"
    find_phalanx
    "${target}_check"
    work=$(mktemp -d "${TMPDIR:-/tmp}/phalanx-chaos.XXXXXX")
    stopped=() writer_pids=() finished=0 missing='' joined=''
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # A terminal, or a reader of what is said, that is gone.
    trap 'exit 129' HUP
    trap 'exit 141' PIPE
    RANDOM=$seed
    prefix=chaos/$(date +%Y%m%d-%H%M%S)-$$/

    look || fail "no node answers at $given_addresses: $(cat "$work/members.log")"
    size=${#names[@]} tolerated=$((($(voters) - 1) / 2))
    ((tolerated >= 1 && down <= tolerated)) ||
        fail "of $(voters) voters $tolerated may be down at once, and not $((down ? down : 1))" 2
    await_whole
    say "$size nodes, of which $(voters) vote: $(described "${names[@]}"); keys: $prefix"
    start_writers
    await_progress "with all nodes up"
    for ((round = 1; round <= rounds; round++)); do
        play
        finished=$round
    done
}

main "$@"
