# shellcheck shell=bash
# What the tests of this directory share: a place apart, and few words.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
me=${0##*/}

# Leaves the test out, and says so.
leave_out() {
    printf '%s: LEFT OUT: %s\n' "$me" "$1" >&2
    exit 0
}

needs() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || leave_out "it takes $program"
    done
}

# Runs this script again in a network, a process table and a table of mounts of its own: nothing that it does there is seen
# outside, and all of it is gone with the script.
apart() {
    [[ ! ${IN_A_PLACE_APART-} ]] || return 0
    ((EUID == 0)) || leave_out "it makes networks, which takes root"
    unshare --net --mount --pid true 2>/dev/null || leave_out "the system gives no namespaces"
    IN_A_PLACE_APART=1 exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$@"
}

find_programs() {
    local dir
    for dir in ${PHALANX_BIN_DIR:+"$PHALANX_BIN_DIR"} "$root/target/debug" "$root/target/release"; do
        [[ -x $dir/phalanx-server && -x $dir/phalanx ]] || continue
        PHALANX_BIN_DIR=$(cd "$dir" && pwd)
        export PHALANX_BIN_DIR PATH=$PHALANX_BIN_DIR:$PATH
        return
    done
    printf '%s: there is no phalanx-server: cargo build --bins, or set PHALANX_BIN_DIR\n' "$me" >&2
    exit 1
}

# A directory for the test, on the disk: /tmp may be memory.
make_folder() {
    mkdir -p "$root/target/tmp"
    folder=$(mktemp -d "$root/target/tmp/$me.XXXXXX")
    trap 'ended $?' EXIT
}

ended() {
    set +e
    if (($1)); then
        printf '%s: FAILED: %s\n' "$me" "$doing" >&2
        type -t explain >/dev/null && explain >&2
    fi
    cd / && end_processes && rm -rf "$folder"
    exit "$1"
}

# In a process table of its own, all others are the test's.
end_processes() {
    local pid
    (($$ == 1)) || return 0
    for pid in /proc/[0-9]*; do
        pid=${pid#/proc/}
        ((pid == 1)) || kill -KILL "$pid" 2>/dev/null
    done
    wait
}

# Says what is tested from here on.
testing() {
    doing=$1
    printf '%s: %s\n' "$me" "$1"
}

# Waits until a command succeeds.
eventually() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || {
            printf 'still not so: %s\n' "$*" >&2
            return 1
        }
        sleep 0.1
    done
}

# Whether a process is gone to its last thread. Its command line is empty as soon as the first has ended, when another may still
# wait for the disk, and keep what is locked and listened to.
has_ended() {
    [[ -e /proc/$1 ]] || return 0
    grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null || return 1
    local threads=("/proc/$1/task/"*)
    ((${#threads[@]} == 1))
}

# Times small writes to the disk, now and then, beside what is tested: what holds them up is the machine. Once stopped,
# `longest_write` is how long the longest took, in ms.
start_timing_writes() {
    : >"$folder/timing"
    (
        longest=0
        while [[ -e $folder/timing ]]; do
            begun=${EPOCHREALTIME/[.,]/}
            dd if=/dev/zero of="$folder/timed" bs=4k count=1 oflag=dsync conv=notrunc 2>/dev/null
            took=$(((${EPOCHREALTIME/[.,]/} - begun) / 1000))
            ((took <= longest)) || longest=$took
            sleep 0.05
        done
        printf '%d\n' "$longest" >"$folder/longest"
    ) &
    timer=$!
}

# The write that is under way counts, too.
stop_timing_writes() {
    rm "$folder/timing"
    wait "$timer"
    timer=
    longest_write=$(<"$folder/longest")
}

# Whether what took so many ms took no longer than that, and three times what the machine held up such a write: a new leader's
# term, the votes for it and its first entry are written one after the other.
is_within() {
    (($1 <= $2 + 3 * longest_write)) || {
        printf 'it took %s ms, and not %d, while a small write to the disk took up to %d ms\n' "$1" "$2" "$longest_write" >&2
        return 1
    }
}

# The longest gap that chaos.sh tells of, in ms.
longest_gap() { sed -n 's/^longest gap between acknowledgements = \([0-9]*\) ms.*/\1/p' <<<"$1"; }

# Marks in the logs of nodes where a rolling restart begins.
mark_rolling() {
    local log
    for log in "$@"; do printf -- '---- rolling\n' >>"$log"; done
}

# Whether, by the logs of five nodes, all were stopped since the mark, and whoever led then began to hand over first.
handed_over() {
    awk '
        FNR == 1 { leads = counts = 0 }
        /^---- rolling$/ { counts = 1 }
        / leader in term / { leads = led = 1 }
        / (follower|candidate) in term | handing leadership over$/ { leads = 0 }
        / stopped$/ && counts { stopped++; kept += leads; counts = 0 }
        END { exit !(led && stopped == 5 && !kept) }' "$@" || {
        printf 'not all five were stopped, or one that led until it was, by: %s\n' "$*" >&2
        return 1
    }
}

# The text of a file or a command must have that in it.
has() {
    grep -qF -- "$2" <<<"$1" || {
        printf 'not found: %s\nin: %s\n' "$2" "$1" >&2
        return 1
    }
}
