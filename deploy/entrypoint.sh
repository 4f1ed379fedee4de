#!/bin/sh
# What the container runs: the server, with any flags; `seccomp`, which prints the seccomp profile; or another command.
#
# Where it is root it gives the data directory to the user `phalanx`, and goes on as that. The server takes this process's
# place, and so gets the signals.
set -eu

if [ "${1-}" = seccomp ]; then
    exec cat /usr/local/share/phalanx/seccomp.json
fi

case ${1-} in
'' | -*) set -- phalanx-server "$@" ;;
esac

if [ "$(id -u)" = 0 ]; then
    data_dir=${DATA_DIR:-/data}
    mkdir -p "$data_dir"
    # The directory itself comes last: what was interrupted is done again.
    [ "$(stat -c %U "$data_dir")" = phalanx ] || chown -R phalanx:phalanx "$data_dir"
    set -- setpriv --reuid phalanx --regid phalanx --init-groups -- "$@"
fi

exec "$@"
