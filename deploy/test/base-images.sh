#!/usr/bin/env bash
# Makes the images that the Dockerfile begins with, where there is no registry to get them from: of Debian's packages, with
# debootstrap, and of the Rust toolchain that is installed here. Those that are there already stay.
#
#   deploy/test/base-images.sh           both
#   deploy/test/base-images.sh debian    that of the runtime alone, which takes a minute
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/common.sh"
needs docker debootstrap
((EUID == 0)) || leave_out "debootstrap takes root"

# The names as the Dockerfile has them.
image_of() {
    sed -nE "s/^FROM ($1:[^ ]+).*/\1/p" "$root/Dockerfile"
}

exists() {
    docker image inspect "$1" >/dev/null 2>&1
}

# Where this machine's own packages come from.
mirror() {
    # shellcheck disable=SC2016 # apt fills that in.
    apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
        awk -v suite="$suite" '$1 == suite { print $2; exit }'
}

# As Debian's `slim` images are: the smallest variant, without manuals and translations.
make_debian() {
    local from
    from=$(mirror)
    [[ $from ]] || leave_out "apt knows no mirror of $suite"
    debootstrap --variant=minbase --include=ca-certificates "$suite" "$folder/debian" "$from" >"$folder/log" || {
        tail -n 20 "$folder/log" >&2
        return 1
    }
    # apt keeps no caches in the published images either.
    printf '%s\n' 'Dir::Cache::pkgcache "";' 'Dir::Cache::srcpkgcache "";' >"$folder/debian/etc/apt/apt.conf.d/no-caches"
    # Whom this machine trusts.
    cp /etc/ssl/certs/ca-certificates.crt "$folder/debian/etc/ssl/certs/"
    tar -C "$folder/debian" --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/info/*' \
        --exclude='./usr/share/locale/*' --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' \
        --exclude='./dev/*' -c . | docker import --change 'CMD ["bash"]' - "$debian" >/dev/null
}

make_rust() {
    local sysroot
    sysroot=$(rustc --print sysroot)
    container=$(docker create "$debian" sh -c '
        apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev >/dev/null')
    docker start --attach "$container" >&2
    tar -C "$sysroot" --exclude=./share --transform 's,^\.,rust,' -ch . | docker cp - "$container:/usr/local"
    docker commit --change 'ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'ENV CARGO_HOME=/usr/local/cargo' --change 'CMD ["bash"]' "$container" "$rust" >/dev/null
}

debian=$(image_of debian)
rust=$(image_of rust)
suite=${debian#debian:}
suite=${suite%-slim}
mkdir -p "$root/target/tmp"
folder=$(mktemp -d "$root/target/tmp/base-images.XXXXXX")
container=
trap 'clean_up' EXIT

clean_up() {
    [[ ! $container ]] || docker rm -f "$container" >/dev/null
    rm -rf "$folder"
}

exists "$debian" || { testing "makes $debian" && make_debian; }
[[ ${1-} == debian ]] || exists "$rust" || {
    [[ $(rustc --version) == "rustc ${rust//[!0-9.]/}"* ]] || printf 'in the place of %s: %s\n' "$rust" "$(rustc --version)" >&2
    testing "makes $rust" && make_rust
}
