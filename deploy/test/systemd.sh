#!/usr/bin/env bash
# Tests deploy/phalanx.service: what systemd says of it, and a node that runs by it, in a container with systemd.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/common.sh"
needs docker
docker version >/dev/null 2>&1 || leave_out "no Docker engine answers"
find_programs
"$root/deploy/test/base-images.sh" debian

container=phalanx-test-systemd
trap 'clean_up $?' EXIT

clean_up() {
    if (($1)); then
        printf '%s: FAILED: %s\n' "$me" "${doing-}" >&2
        inside journalctl --no-pager -n 30 >&2 || true
    fi
    docker rm --force $container >/dev/null 2>&1 || true
    exit "$1"
}

inside() { docker exec $container "$@"; }

testing "a machine with systemd"
sed -n 's/^FROM \(debian:.*\) AS .*/FROM \1/p' "$root/Dockerfile" | cat - <(
    echo 'RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends systemd >/dev/null'
) | docker build --quiet --tag $container - >/dev/null
capabilities=(--cap-add ALL)
# Bit 24 is CAP_SYS_RESOURCE: who lacks it may lower limits and not raise them.
raises=$((0x$(awk '/^CapBnd/ { print $2 }' /proc/self/status) >> 24 & 1))
((raises)) || capabilities+=(--cap-drop SYS_RESOURCE)
# systemd needs a tree of cgroups that it may write, and this one is the container's own.
docker run --detach --name $container --cgroupns private "${capabilities[@]}" --env container=docker \
    --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined \
    --tmpfs /run --tmpfs /run/lock --tmpfs /tmp $container sh -c '
        umount -l /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup || exit
        mkdir /sys/fs/cgroup/init && echo 1 >/sys/fs/cgroup/init/cgroup.procs
        exec /lib/systemd/systemd' >/dev/null
# It exits with 1 for `degraded`.
has_started() { [[ $(inside systemctl is-system-running 2>/dev/null) =~ ^(running|degraded)$ ]]; }
if ! eventually 60 has_started 2>/dev/null; then
    leave_out "systemd does not start in a container here"
fi
docker cp "$PHALANX_BIN_DIR/phalanx-server" $container:/usr/local/bin/
docker cp "$PHALANX_BIN_DIR/phalanx" $container:/usr/local/bin/
docker cp "$root/deploy/phalanx.service" $container:/etc/systemd/system/

testing "what systemd says of the unit"
inside systemd-analyze verify phalanx.service
# Of 100: 0 is shut off from everything, and from 50 on it is `exposed`.
inside systemd-analyze security --no-pager --threshold=20 phalanx.service | tail -n 1

property() { inside systemctl show phalanx --property "$1" --value; }
serves() { inside phalanx put key "$1" --timeout 1s >/dev/null 2>&1; }
is_active() { [[ $(property ActiveState) == "$1" ]]; }
# The journal has what was said a moment later.
in_journal() { grep -qF -- "$1" <<<"$(inside journalctl -u phalanx --no-pager -o cat)"; }

testing "a node"
inside sh -c 'printf "%s\n" NODE_ID=node-1 TICK_MS=100 HEARTBEAT=2 ELECTION=10 >/etc/phalanx.conf'
if ((!raises)); then
    printf '%s: LEFT OUT: the limits, which may not be raised here\n' "$me" >&2
    inside mkdir /etc/systemd/system/phalanx.service.d
    # shellcheck disable=SC2016 # The limits are those inside.
    inside sh -c 'printf "[Service]\nLimitMEMLOCK=%s\nLimitNOFILE=%s\nOOMScoreAdjust=0\n" \
        "$(($(ulimit -Hl) * 1024))" "$(ulimit -Hn)" >/etc/systemd/system/phalanx.service.d/limits.conf'
    inside systemctl daemon-reload
fi
inside systemctl enable --quiet --now phalanx
eventually 30 serves one
[[ $(inside phalanx health) == LEADER ]]
# Of the range that systemd gives to such users.
uid=$(inside stat -c %u /proc/"$(property MainPID)")
((uid >= 61184 && uid <= 65519))

testing "it comes back after SIGKILL, with its data"
inside systemctl kill --signal KILL phalanx
eventually 30 serves two

testing "it stops as asked"
begun=$(date +%s%3N)
inside systemctl stop phalanx
printf '%s: it stops in %d ms\n' "$me" $(($(date +%s%3N) - begun))
[[ $(property Result) == success ]]
eventually 30 in_journal stopped

testing "wrong settings are not tried again"
inside sh -c 'echo ELECTION=1 >>/etc/phalanx.conf'
# That fails or not, by what systemd hears of first: that it is executed, or that it has ended.
inside systemctl start phalanx || true
eventually 10 is_active failed
[[ $(property NRestarts) == 0 ]]
eventually 30 in_journal ELECTION

testing "done"
