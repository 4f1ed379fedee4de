#!/usr/bin/env bash
# Tests the image as a single node, and five of them as deploy/compose.yaml has them.
#
#   deploy/test/docker.sh            puts the programs that are built here into the image, which spares compiling them
#   deploy/test/docker.sh --build    has the Dockerfile compile them, as `docker build -t phalanx .` does
#
# Where there is no registry, deploy/test/base-images.sh makes the images that the Dockerfile begins with.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/common.sh"
needs docker
docker version >/dev/null 2>&1 || leave_out "no Docker engine answers"
find_programs

image=phalanx-test
nodes=(node-0 node-1 node-2 node-3 node-4)
all=127.0.0.1:9000,127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9003,127.0.0.1:9004

if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
elif command -v docker-compose >/dev/null; then
    compose=(docker-compose)
else
    compose=()
fi

compose() { (cd "$root/deploy" && PHALANX_IMAGE=$image COMPOSE_PROJECT_NAME=$image "${compose[@]}" "$@"); }

# ---- What goes when the test ends. ----

mkdir -p "$root/target/tmp"
folder=$(mktemp -d "$root/target/tmp/docker.XXXXXX")
trap 'clean_up $?' EXIT

clean_up() {
    set +e
    if (($1)); then
        printf '%s: FAILED: %s\n' "$me" "${doing-}" >&2
        local container
        for container in $(docker ps --all --format '{{.Names}}' | grep "^$image"); do
            printf '%s:\n' "$container" >&2
            docker logs --tail 15 "$container" >&2
        done
        ((!is_up)) || compose logs --tail 15 >&2
    fi
    [[ ! ${load-} ]] || kill "$load" 2>/dev/null
    [[ ! ${timer-} ]] || kill "$timer" 2>/dev/null
    ((!is_up)) || compose down --volumes >/dev/null 2>&1
    docker rm --force --volumes $image-one >/dev/null 2>&1
    docker volume rm $image-data >/dev/null 2>&1
    rm -rf "$folder"
    exit "$1"
}
is_up=0

# ---- The image. ----

# Without the stage that compiles: its result comes from an image that has the programs of this machine.
dockerfile() {
    awk '/^FROM/ { compiles = / AS build$/ } !compiles' "$root/Dockerfile" | sed "s/--from=build/--from=$image-built/"
}

build() {
    if [[ $compiled == in-the-image ]]; then
        docker build --quiet "$@" "$root" >/dev/null
    else
        dockerfile | docker build --quiet --file - "$@" "$root" >/dev/null
    fi
}

# The base images are made if they cannot be had.
if [[ ${1-} == --build ]]; then
    compiled=in-the-image
    "$root/deploy/test/base-images.sh"
else
    compiled=here
    "$root/deploy/test/base-images.sh" debian
    mkdir "$folder/built"
    for program in phalanx phalanx-server; do
        objcopy --strip-debug "$PHALANX_BIN_DIR/$program" "$folder/built/$program"
    done
    printf 'FROM scratch\nCOPY . /out/\n' |
        docker build --quiet --tag $image-built --file - "$folder/built" >/dev/null
fi

testing "docker build"
build --tag $image
build --tag $image-fly --target fly
printf '%s: the image has %d MB\n' "$me" "$(($(docker image inspect --format '{{.Size}}' $image) / 1000000))"

testing "what the image says of itself"
docker run --rm $image seccomp | cmp - "$root/deploy/seccomp.json"
has "$(docker run --rm $image --help)" DATA_DIR
has "$(docker run --rm $image phalanx --version)" "phalanx "
docker run --rm $image sh -c 'command -v start.sh dnsget getent awk timeout' >/dev/null
[[ $(docker run --rm $image id -u) == 10001 ]]
[[ $(docker run --rm $image-fly id -u) == 10001 ]]

# Docker's default profile since version 25: ours without the first of its rules.
testing "a profile that refuses io_uring"
sed '/io_uring/s/"names": .*/"names": ["read"],/' "$root/deploy/seccomp.json" >"$folder/without.json"
code=0
said=$(docker run --rm --security-opt "seccomp=$folder/without.json" $image 2>&1) || code=$?
((code == 1))
has "$said" "the kernel refuses io_uring (Operation not permitted"
has "$said" "docker run --rm phalanx seccomp > seccomp.json"
has "$said" "docker run --security-opt seccomp=seccomp.json"

# ---- One node. ----

now_ms() { date +%s%3N; }
health_of() { [[ $(docker inspect --format '{{.State.Health.Status}}' "$1") == "$2" ]]; }
leads() { [[ $(phalanx health "$1" 2>/dev/null) == LEADER ]]; }
port_of() { docker port "$1" "$2/tcp" | head -n 1; }
runs_as_phalanx() { [[ $(docker top "$1" -o pid,uid,args | awk '/phalanx-server/ { print $2 }') == 10001 ]]; }

# Runs a node at ports of 127.0.0.1 that are free.
run_one() {
    docker run --detach --name $image-one --publish 127.0.0.1::9000 --publish 127.0.0.1::8080 \
        --security-opt "seccomp=$root/deploy/seccomp.json" "$@" >/dev/null
}

testing "one node"
begun=$(now_ms)
run_one --volume $image-data:/data $image
one=$(port_of $image-one 9000)
eventually 30 phalanx health "$(port_of $image-one 8080)" >/dev/null 2>&1
healthy=$(now_ms)
# It is healthy while it forms its cluster, too.
eventually 30 leads "$(port_of $image-one 8080)"
phalanx put hello world --addr "$one" >/dev/null
printf '%s: /health is 200 after %d ms, and the first put is done after %d ms\n' \
    "$me" $((healthy - begun)) $(($(now_ms) - begun))
runs_as_phalanx $image-one
eventually 30 health_of $image-one healthy

testing "SIGTERM ends it, and its data is there again"
begun=$(now_ms)
docker stop -t 60 $image-one >/dev/null
printf '%s: it stops in %d ms\n' "$me" $(($(now_ms) - begun))
[[ $(docker inspect --format '{{.State.ExitCode}}' $image-one) == 0 ]]
has "$(docker logs $image-one 2>&1)" "stopped"
begun=$(now_ms)
docker start $image-one >/dev/null
one=$(port_of $image-one 9000)
eventually 30 phalanx get hello --addr "$one" --timeout 1s >"$folder/got" 2>/dev/null
printf '%s: started again, it has answered after %d ms\n' "$me" $(($(now_ms) - begun))
[[ $(<"$folder/got") == world ]]
docker rm --force $image-one >/dev/null

testing "a volume that belongs to root, as on Fly.io"
mkdir -p "$folder/volume/lost+found"
run_one --volume "$folder/volume:/data" $image-fly
eventually 30 phalanx health "$(port_of $image-one 8080)" >/dev/null 2>&1
runs_as_phalanx $image-one
docker rm --force $image-one >/dev/null

testing "a volume that it may not write is named"
chown -R root "$folder/volume"
code=0
said=$(docker run --rm --security-opt "seccomp=$root/deploy/seccomp.json" --volume "$folder/volume:/data" $image 2>&1) || code=$?
((code == 1))
has "$said" "/data"
has "$said" "Permission denied"

# ---- Five. ----

((${#compose[@]})) || leave_out "deploy/compose.yaml: there is neither docker compose nor docker-compose"
for node in "${nodes[@]}"; do
    ! docker inspect "phalanx-$node" >/dev/null 2>&1 || {
        printf '%s: the container phalanx-%s is in the way: (cd deploy && docker compose down)\n' "$me" "$node" >&2
        exit 1
    }
done

five_vote() {
    phalanx members --addr "$all" --timeout 2s 2>/dev/null |
        awk '$3 ~ /^(leader|voter)$/ && $4 == "alive" { n++ } $3 == "leader" { leads = 1 } END { exit !(n == 5 && leads) }'
}
leader() { phalanx members --addr "$all" --timeout 30s | awk '$3 == "leader" { print $1 }'; }
node_can_serve() { docker exec "phalanx-$1" phalanx health >/dev/null 2>&1; }
node_cannot_serve() { ! node_can_serve "$1"; }

testing "five nodes in five regions"
begun=$(now_ms)
is_up=1
compose up --detach >"$folder/up" 2>&1 || { cat "$folder/up" >&2; exit 1; }
eventually 60 five_vote
printf '%s: five vote after %d ms\n' "$me" $(($(now_ms) - begun))
members=$(phalanx members --addr "$all" --timeout 30s)
for region in jnb lhr ord sin fra; do has "$members" " $region "; done
phalanx put hello mesh --addr 127.0.0.1:9000 --timeout 30s >/dev/null
for port in 9000 9001 9002 9003 9004; do
    [[ $(phalanx get hello --addr "127.0.0.1:$port" --timeout 30s) == mesh ]]
done
for node in "${nodes[@]}"; do eventually 30 health_of "phalanx-$node" healthy; done

# Writes one key after the other until it is told to end, and notes how long each took, or that it failed.
write_on() {
    local i begun
    for ((i = 0; ; i++)); do
        begun=$(now_ms)
        if phalanx put "load/$i" "$i" --addr "$all" --timeout 60s >/dev/null 2>>"$folder/failures"; then
            printf '%d\n' $(($(now_ms) - begun)) >>"$folder/took"
        fi
        ((i % 20)) || [[ ! -e $folder/enough ]] || break
    done
}

testing "all are restarted one by one under load, the leader too"
touch "$folder/failures" "$folder/took"
start_timing_writes
write_on &
load=$!
for node in "${nodes[@]}"; do
    led=$(leader)
    begun=$(now_ms)
    docker restart -t 60 "phalanx-$node" >/dev/null
    [[ $led != "$node" ]] || printf '%s: %s, which led, was back after %d ms\n' "$me" "$node" $(($(now_ms) - begun))
    eventually 30 node_can_serve "$node"
    eventually 30 five_vote
done
touch "$folder/enough"
wait "$load"
load=
stop_timing_writes
[[ ! -s $folder/failures ]] || { cat "$folder/failures" >&2; exit 1; }
longest=$(sort -n "$folder/took" | tail -n 1)
printf '%s: %d writes, none failed, the longest took %d ms\n' "$me" "$(wc -l <"$folder/took")" "$longest"
is_within "$longest" 10000
[[ $(phalanx list load/ --count --addr "$all" --timeout 30s) == $(wc -l <"$folder/took") ]]

testing "a network is taken from a node, and given back"
network=$(docker inspect --format '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}' phalanx-node-3)
docker network disconnect "$network" phalanx-node-3
phalanx put while away --addr 127.0.0.1:9000 --timeout 30s >/dev/null
eventually 30 node_cannot_serve node-3
docker network connect "$network" phalanx-node-3
eventually 30 node_can_serve node-3
[[ $(docker exec phalanx-node-3 phalanx get while --timeout 30s) == away ]]
eventually 30 five_vote
[[ $(phalanx get while --addr 127.0.0.1:9003 --timeout 30s) == away ]]

testing "a majority is killed, and comes back"
docker kill phalanx-node-0 phalanx-node-1 phalanx-node-2 >/dev/null
eventually 30 node_cannot_serve node-4
code=0
said=$(phalanx put no majority --addr 127.0.0.1:9004 --timeout 3s 2>&1) || code=$?
((code == 3))
docker start phalanx-node-0 phalanx-node-1 phalanx-node-2 >/dev/null
eventually 30 five_vote
phalanx put all back --addr 127.0.0.1:9004 --timeout 30s >/dev/null

testing "done"
