#!/usr/bin/env bash
# Removes the store of `make run`: the folder .clamor, and where root's PostgreSQL keeps its files, if that is elsewhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
store=${1:-.clamor}

if [ ! -d "$store" ]; then
    echo "There is no store in $store."
    exit 0
fi

# A running standalone holds this lock; a simulated one works in a folder of its own.
for lock in "$store/lock" "$store/simulator/lock"; do
    if [ -e "$lock" ] && ! flock --nonblock "$lock" true; then
        echo "Clamor is running in $(dirname "$lock"): stop it first." >&2
        exit 1
    fi
done
# A killed one's servers need a moment to end.
while read -r lock; do
    if ! flock --wait 20 "$lock" true; then
        echo "A server still runs in $(dirname "$lock"): stop it first." >&2
        exit 1
    fi
done < <(find "$store" -maxdepth 4 \( -path '*/nats/lock' -o -path '*/postgres/lock' \))

places=("$store")
while read -r pointer; do
    target=$(cat "$pointer")
    # Only what the servers crate itself chooses; anything else is somebody's mistake.
    [[ $target =~ ^/var/lib/clamor/postgres-[0-9a-f]{16}$ ]] && places+=("$target")
done < <(find "$store" -maxdepth 4 -name 'postgres.location')

du -sh "${places[@]}"
if [ "${YES:-}" != 1 ]; then
    if [ ! -t 0 ]; then
        echo "Nobody is there to ask; say YES=1 to remove it all the same." >&2
        exit 1
    fi
    read -r -p "Remove all that was counted there? [y/N] " answer
    case $answer in y | Y | yes) ;; *) echo "Kept."; exit 0 ;; esac
fi
rm -rf -- "${places[@]}"
echo "Removed."
