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

# The text of a file or a command must have that in it.
has() {
    grep -qF -- "$2" <<<"$1" || {
        printf 'not found: %s\nin: %s\n' "$2" "$1" >&2
        return 1
    }
}
