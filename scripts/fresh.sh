#!/bin/sh
# Prove the README: a bare Debian in .fresh/ with nothing in it but Python and make, a clone of
# this repository (its last commit), and the README's two commands as it prints them.
#
# Only the way to the package registries is the host's: pip's configuration, apt's sources, CA
# certificates. The mounts live in a namespace of their own, the processes too: whatever happens,
# neither is left behind.
#
#   FRESH_COMMANDS   run these lines instead of the README's
#   FRESH_SUITE      default bookworm;  FRESH_MIRROR  default: this machine's
#   FRESH_KEEP=1     keep .fresh/ when everything passed
set -eu
cd "$(dirname "$0")/.."
repository=$PWD
fresh=$repository/.fresh
root=$fresh/root
suite=${FRESH_SUITE:-bookworm}
mirror=${FRESH_MIRROR:-$(sh scripts/mirror.sh)}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() { printf '%s\n' "$*" >&2; }
die() { say "✗ $*"; exit 2; }

[ "$(id -u)" = 0 ] || die "make fresh needs root (debootstrap and chroot)"
[ -n "$mirror" ] || die "no mirror of the distribution is known here: set FRESH_MIRROR"

copy() { # a file of the host, at the same place in the new system
    [ -f "$1" ] || return 0
    mkdir -p "$root$(dirname "$1")"
    cp -L "$1" "$root$1"
}

bare_system() {
    command -v debootstrap >/dev/null || {
        apt-get -q update >/dev/null
        apt-get -q -y install --no-remove --no-install-recommends debootstrap >/dev/null ||
            die "debootstrap is missing and cannot be installed"
    }
    say "── a bare Debian $suite in $root"
    rm -rf --one-file-system "$fresh"
    mkdir -p "$root"
    debootstrap --variant=minbase --include=python3,make "$suite" "$root" "$mirror" \
        >"$fresh/debootstrap.log" 2>&1 || die "debootstrap failed ($fresh/debootstrap.log)"
}

registries() {
    say "── the host's way to the package registries"
    # apt: the host's own sources where it runs the same suite, else those of the mirror.
    # shellcheck source=/dev/null
    if [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = "$suite" ] &&
        [ -f /etc/apt/sources.list.d/debian.sources ]; then
        rm -f "$root/etc/apt/sources.list"
        copy /etc/apt/sources.list.d/debian.sources
    else
        printf 'deb %s %s main\n' "$mirror" "$suite" >"$root/etc/apt/sources.list"
        # Ubuntu's servers are outside main.
        case $mirror in *ubuntu*) sed -i 's/ main$/ main universe/' "$root/etc/apt/sources.list" ;; esac
    fi
    apt-config dump | grep -E '^Acquire::[^ ]*(Proxy|Verify|CAInfo|Check-Valid-Until|Check-Date)' \
        >"$root/etc/apt/apt.conf.d/90host" || true
    # pip: configuration files, certificates, and folders on this disk that they name.
    for file in /etc/pip.conf "$HOME/.pip/pip.conf" "$HOME/.config/pip/pip.conf" \
        "${PIP_CONFIG_FILE:-}" /etc/hosts /etc/resolv.conf; do
        [ -z "$file" ] || [ "$file" = /dev/null ] || copy "$file"
    done
    env | grep -E '^(PIP_|https?_proxy=|no_proxy=|HTTPS?_PROXY=|NO_PROXY=)' |
        sed "s/'/'\\\\''/g; s/=/='/; s/\$/'/; s/^/export /" >"$root/etc/registries.sh" || true
    # Under a name of its own: installing the package ca-certificates writes the usual one anew.
    for bundle in "${PIP_CERT:-}" "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt; do
        [ -f "$bundle" ] || continue
        cp -L "$bundle" "$root/etc/host-certificates.crt"
        for name in PIP_CERT SSL_CERT_FILE REQUESTS_CA_BUNDLE; do
            echo "export $name=/etc/host-certificates.crt" >>"$root/etc/registries.sh"
        done
        break
    done
    cat /etc/pip.conf "$HOME/.pip/pip.conf" "$HOME/.config/pip/pip.conf" "$root/etc/registries.sh" \
        2>/dev/null | grep -oE "(file://)?/[A-Za-z0-9._/-]+" | sed 's#^file://##' | sort -u |
        while read -r path; do
            if [ -d "$path" ] && [ "$path" != / ] && [ "${path#/etc/}" = "$path" ]; then
                # simple/ indexes link to their neighbours
                case $path in */simple) path=${path%/simple} ;; esac
                echo "$path"
            fi
        done | sort -u >"$fresh/shared-folders"
}

clone() {
    say "── a clone of $(git log -1 --format='%h %s')"
    git clone --quiet --no-local --no-hardlinks "$repository" "$root/stagedoor"
    if [ -n "${FRESH_COMMANDS:-}" ]; then
        printf '%s\n' "$FRESH_COMMANDS"
    else
        # The first block of commands in the README, without its comments.
        awk '/^```sh/ {inside = 1; next} /^```/ {if (inside) exit} inside' README.md |
            sed 's/ *#.*//'
    fi | grep -v '^ *$' >"$fresh/commands"
    [ -s "$fresh/commands" ] || die "README.md has no block of commands"
}

inside() { # in its own mount and process namespace; see the call
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t sysfs -o ro sysfs "$root/sys"
    while read -r folder; do
        mkdir -p "$root$folder"
        mount --bind -o ro "$folder" "$root$folder"
    done <"$fresh/shared-folders"
    number=0
    while read -r command; do
        number=$((number + 1))
        say "── \$ $command"
        started=$(date +%s)
        # PATH without /usr/sbin, as a login of an ordinary user has it
        env -i HOME=/root LANG=C.UTF-8 TERM=dumb PATH=/usr/local/bin:/usr/bin:/bin \
            "$(command -v chroot)" "$root" /bin/sh -c ". /etc/registries.sh; cd /stagedoor && $command" \
            >"$fresh/$number.log" 2>&1 </dev/null && code=0 || code=$?
        tail -n 25 "$fresh/$number.log" >&2
        say "── exit $code after $(($(date +%s) - started)) s ($fresh/$number.log)"
        [ $code = 0 ] || exit 1
    done <"$fresh/commands"
}

if [ "${1:-}" = inside ]; then
    inside
    exit 0
fi

bare_system
registries
clone
unshare --mount --propagation private --pid --fork --kill-child sh "$0" inside
say "✓ the README's commands work on a bare $suite"
[ -n "${FRESH_KEEP:-}" ] || rm -rf --one-file-system "$fresh"
