#!/usr/bin/env bash
# Tests fly.toml, start.sh, and chaos.sh with target fly, in a world like Fly's: each machine is a network of its own with an
# address in 6PN, a name server at fdaa::3 has the records that Fly's has, and the program `fly` (fly-stub.sh) obeys.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/common.sh"
needs unshare ip nsenter dnsmasq dnsget
apart "$@"
find_programs
[[ -e /proc/net/if_inet6 ]] || leave_out "the system has no IPv6"
make_folder
export WORLD=$folder
mkdir "$WORLD/bin" "$WORLD/machines"
ln -s "$root/deploy/test/fly-stub.sh" "$WORLD/bin/fly"
ln -s "$root/deploy/start.sh" "$WORLD/bin/start.sh"
export PATH=$WORLD/bin:$PATH
cp "$root/deploy/fly.toml" "$WORLD/fly.toml"

NAME_SERVER=fdaa::3
REGIONS=(jnb lhr ord sin fra)

explain() { tail -n 4 "$WORLD"/machines/*/log; }

# ---- The world. ----

make_world() {
    ip link set lo up
    ip link add switch type bridge mcast_snooping 0
    ip link set switch up
    ip addr add "$NAME_SERVER/16" dev switch nodad
    mount -t tmpfs none /run
    printf 'nameserver %s\n' "$NAME_SERVER" >"$WORLD/resolv.conf"
    printf 'hosts: files dns\n' >"$WORLD/nsswitch.conf"
    mount --bind "$WORLD/resolv.conf" "$(readlink -f /etc/resolv.conf)"
    mount --bind "$WORLD/nsswitch.conf" /etc/nsswitch.conf
}

# What `fly machine run` and the first part of `fly deploy` do: a machine, with a volume. Its id is like Fly's.
make_machine() {
    local id=$1 region=$2 ip=$3 volume=$4 dir=$WORLD/machines/$1
    mkdir -p "$dir" "$WORLD/volumes/$volume"
    printf '%s\n' "$region" >"$dir/region"
    printf '%s\n' "$WORLD/volumes/$volume" >"$dir/volume"
    ip netns add "$id"
    ip link add "${id: -8}" type veth peer name eth0 netns "$id"
    ip link set "${id: -8}" master switch up
    ip -n "$id" link set lo up
    ip -n "$id" link set eth0 up
    give_address "$id" "$ip"
}

give_address() {
    ip -n "$1" addr flush dev eth0 scope global
    ip -n "$1" addr add "$2/16" dev eth0 nodad
    printf '%s\n' "$2" >"$WORLD/machines/$1/ip"
}

# (Re)starts the name server with the records of now, which `fly` does, too, whenever a machine starts or stops.
serve_names() { "$root/deploy/test/fly-stub.sh" names; }

start() { fly machine start "$1" --app phalanx >/dev/null; }
log() { cat "$WORLD/machines/$1/log"; }
# Whether start.sh has looked up what it looks up, and becomes the server.
has_looked_up() { grep -qF "start.sh: node $1" "$WORLD/machines/$1/log" 2>/dev/null; }
ip_of() { cat "$WORLD/machines/$1/ip"; }
# An address as everybody writes it.
usual() { getent ahostsv6 "$1" | awk 'NR == 1 { print $1 }'; }

# What /health of a machine answers, on one line: the code, and the text.
health() {
    { exec 3<>"/dev/tcp/$(ip_of "$1")/8080"; } || return 1
    printf 'GET /health HTTP/1.1\r\nHost: phalanx\r\nConnection: close\r\n\r\n' >&3
    tr -d '\r' <&3 | awk 'NR == 1 { printf "%s ", $2 } body { printf "%s ", $0 } /^$/ { body = 1 }'
    exec 3>&-
} 2>/dev/null
is_forming() { [[ $(health "$1") == "200 forming "* ]]; }
# Whether it says what its role is, for it has one.
serves() { [[ $(health "$1") =~ ^200\ (LEADER|FOLLOWER|LEARNER)\  ]]; }

members() { phalanx members --addr "[$(ip_of "${ids[0]}")]:9000" 2>/dev/null; }
# Whether so many members of that role are alive.
alive() { (($(members | awk -v role="$2" '$3 ~ role && $4 == "alive"' | wc -l) == $1)); }
one_leads() { (($(members | awk '$3 == "leader"' | wc -l) == 1)); }
# Whether a machine is among the members in that region and at that address, or any.
is_voter() { members | grep -qE "^$1 .* (leader|voter) +alive +$2 +${3:-.}"; }
# Runs chaos against the app, and shows what it says.
chaos() {
    local code=0
    said=$("$root/scripts/chaos.sh" phalanx "[$(ip_of "${ids[2]}")]:9000" "$@" 2>&1) || code=$?
    printf '%s\n' "$said"
    ((code == 0)) && has "$said" "lost = 0"
}
is_no_member() {
    local all
    all=$(members) && ! grep -qE "^$1 .* (leader|voter|learner) " <<<"$all"
}
lacks() { log "$1" | grep -q "no connection yet to .*$2"; }

# ---- The test. ----

make_world
ids=()
for i in 0 1 2 3 4; do
    ids+=("3d8d9ac0b4e${i}58")
    make_machine "${ids[i]}" "${REGIONS[i]}" "fdaa:0:1:a7b:$i::2" "vol$i"
done

testing "the first machine, without a name server: it waits, and is no cluster"
start "${ids[0]}"
eventually 60 has_looked_up "${ids[0]}"
eventually 30 is_forming "${ids[0]}"
has "$(log "${ids[0]}")" "no other machine of phalanx.internal is known yet"
has "$(log "${ids[0]}")" "timing: a tick of 200 ms, a heartbeat every 1000 ms, an election after 4000 to 5000 ms"
has "$(log "${ids[0]}")" "expects 5"

testing "the first machine, alone in the answer: it is not confused by itself"
fly machine stop "${ids[0]}" --app phalanx >/dev/null
: >"$WORLD/machines/${ids[0]}/log"
serve_names
start "${ids[0]}"
eventually 30 is_forming "${ids[0]}"
has "$(getent ahostsv6 phalanx.internal)" "fdaa:0:1:a7b::2"
has "$(log "${ids[0]}")" "seeds: phalanx.internal:7946"

testing "two of five: still no cluster, and each says whom it lacks"
start "${ids[1]}"
eventually 30 is_forming "${ids[1]}"
has "$(log "${ids[1]}")" "seeds: [fdaa:0:1:a7b::2]:7946,phalanx.internal:7946"
eventually 30 lacks "${ids[1]}" "${ids[4]}"

testing "five machines, each by start.sh: one mesh"
for id in "${ids[@]:2}"; do start "$id"; done
eventually 60 alive 5 '^(leader|voter)$'
eventually 30 one_leads
for i in 0 1 2 3 4; do
    eventually 30 serves "${ids[i]}"
    eventually 30 is_voter "${ids[i]}" "${REGIONS[i]}" "\[$(usual "$(ip_of "${ids[i]}")")\]:9000 "
done
phalanx put where here --addr "[$(ip_of "${ids[1]}")]:9000" --timeout 30s >/dev/null
[[ $(phalanx get where --addr "[$(ip_of "${ids[4]}")]:9000" --timeout 30s) == here ]]

testing "chaos, with fly"
: >"$WORLD/calls"
chaos --rounds 2 --down 2
has "$said" "(jnb)"
has "$(<"$WORLD/calls")" "--signal SIGTERM"
chaos --rounds 1 --down 2 --kill
has "$(<"$WORLD/calls")" "--signal SIGKILL"

testing "a rolling restart, with fly: no gap over an election timeout"
mark_rolling "$WORLD"/machines/*/log
start_timing_writes
chaos --rounds 1 --rolling
stop_timing_writes
is_within "$(longest_gap "$said")" 4000
handed_over "$WORLD"/machines/*/log
has "$(<"$WORLD/calls")" "machine restart ${ids[0]}"

testing "a machine's address is another one after a restart"
fly machine stop "${ids[3]}" --app phalanx >/dev/null
give_address "${ids[3]}" fdaa:0:1:a7b:33::2
start "${ids[3]}"
eventually 60 is_voter "${ids[3]}" sin '\[fdaa:0:1:a7b:33::2\]:9000 '

testing "a machine is replaced over the same volume: a rename"
fly machine stop "${ids[4]}" --app phalanx >/dev/null
mv "$WORLD/machines/${ids[4]}" "$WORLD/gone"
make_machine 9185db43f12e68 fra fdaa:0:1:a7b:44::2 vol4
start 9185db43f12e68
eventually 60 is_voter 9185db43f12e68 fra
eventually 30 is_no_member "${ids[4]}"
eventually 30 alive 5 '^(leader|voter)$'

testing "a sixth machine, whose first lookups fail: no second cluster, and it joins when names can be looked up"
name_server=$(<"$WORLD/names.pid")
kill "$name_server"
eventually 30 has_ended "$name_server"
export NO_NAMES=1
make_machine 784e2d0c6ae598 iad fdaa:0:1:a7b:5::2 vol5
start 784e2d0c6ae598
eventually 60 has_looked_up 784e2d0c6ae598
eventually 30 is_forming 784e2d0c6ae598
unset NO_NAMES
serve_names
eventually 60 alive 1 '^learner$'
eventually 30 serves 784e2d0c6ae598

testing "with more machines than EXPECT, start.sh names none of them"
fly machine restart 784e2d0c6ae598 --app phalanx >/dev/null
has "$(log 784e2d0c6ae598)" "peers: none by name; seeds: [fdaa:"
eventually 60 alive 1 '^learner$'

testing "a region is removed again"
phalanx member remove 784e2d0c6ae598 --addr "[$(ip_of "${ids[0]}")]:9000" --timeout 60s >/dev/null
eventually 30 is_no_member 784e2d0c6ae598
eventually 30 alive 5 '^(leader|voter)$'

testing "what start.sh refuses"
refused() { env -i PATH="$PATH" "$@" start.sh 2>&1 || printf 'exit code %d\n' "$?"; }
said=$(refused FLY_APP_NAME=phalanx)
has "$said" "FLY_MACHINE_ID is not set: this is for machines of Fly.io"
has "$said" "exit code 2"
said=$(refused FLY_APP_NAME=phalanx FLY_MACHINE_ID=1 FLY_PRIVATE_IP=fdaa::1)
has "$said" "EXPECT is \`\`: set it in fly.toml"
has "$said" "exit code 2"

testing "done"
