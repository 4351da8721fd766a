#!/bin/sh
# Prove that the SQL runs on MySQL and the broker's declarations on a newer RabbitMQ than this
# system has: a small Debian sid in .compat/root with nothing but those two servers, a stack
# (`test-compat`) that takes its servers from there, and the integration tests against it.
#
# The root is kept between runs. Nothing is started by installing; the servers run in mount
# namespaces of their own under the stack's supervisor, which ends them by process id.
#
#   COMPAT_SUITE   default sid;  COMPAT_MIRROR  default: this machine's
#   COMPAT_FRESH=1 build the root anew (it is as old as its first run otherwise)
#   COMPAT_KEEP=1  leave the stack running
# Arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
compat=$PWD/.compat
root=$compat/root
suite=${COMPAT_SUITE:-sid}
mirror=${COMPAT_MIRROR:-$(sh scripts/mirror.sh)}
packages="mysql-server-core rabbitmq-server"
stack=test-compat
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() { printf '%s\n' "$*" >&2; }
die() { say "✗ $*"; exit 2; }

[ "$(id -u)" = 0 ] || die "make compat needs root (debootstrap, chroot and mounts)"
[ -n "$mirror" ] || die "no mirror of the distribution is known here: set COMPAT_MIRROR"

install_servers() { # in a mount namespace of its own; see the call
    mount -t proc proc "$root/proc"
    # shellcheck disable=SC2086 # a list of packages
    env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        "$(command -v chroot)" "$root" sh -ec \
        "apt-get -q update; apt-get -q -y install --no-install-recommends $packages; apt-get clean"
}

build() {
    command -v debootstrap >/dev/null || {
        apt-get -q update >/dev/null
        apt-get -q -y install --no-remove --no-install-recommends debootstrap >/dev/null ||
            die "debootstrap is missing and cannot be installed"
    }
    say "── a Debian $suite with $packages in $root (log: $compat/build.log)"
    rm -rf --one-file-system "$root"
    mkdir -p "$root"
    debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$compat/build.log" 2>&1 ||
        die "debootstrap failed ($compat/build.log)"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    # RabbitMQ's node is called …@localhost.
    printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
    apt-config dump | grep -E '^Acquire::[^ ]*(Proxy|Verify|CAInfo|Check-Valid-Until|Check-Date)' \
        >"$root/etc/apt/apt.conf.d/90host" || true
    unshare --mount --propagation private sh "$0" install >>"$compat/build.log" 2>&1 ||
        die "installing $packages failed ($compat/build.log)"
    echo "$suite $packages" >"$root/.stagedoor-complete"
}

if [ "${1:-}" = install ]; then
    install_servers
    exit 0
fi

mkdir -p "$compat"
exec 9>"$compat/lock"
flock -n 9 || die "another make compat is running in this clone"
if [ -n "${COMPAT_FRESH:-}" ] ||
    [ "$(cat "$root/.stagedoor-complete" 2>/dev/null)" != "$suite $packages" ]; then
    build
fi
[ "${1:-}" != build ] || exit 0

python=.venv/bin/python
# In the order of `make test`: reservation-service, once started in a process of tests, answers
# to all payments in its vhost.
tests="libs/common/tests/integration libs/testkit/tests/integration
    services/concert-service/tests/integration services/payment-service/tests/integration
    services/queue-service/tests/integration services/reservation-service/tests/integration
    audit/tests/integration deploy/local/tests/integration/test_accounts.py"

# Every run begins with empty servers: data of another version would be upgraded, not made.
$python -m local_stack down --quiet --remove-data --stack $stack
cleanup() {
    [ -n "${COMPAT_KEEP:-}" ] || $python -m local_stack down --quiet --stack $stack
}
trap cleanup EXIT
trap 'exit 130' INT TERM
$python -m local_stack up --infrastructure-only --stack $stack --servers-root "$root"
code=0
# shellcheck disable=SC2086 # a list of paths
STAGEDOOR_TEST_STACK=$stack STAGEDOOR_SERVERS_ROOT=$root \
    $python -m pytest -n "${WORKERS:-2}" --dist loadgroup \
    --junitxml "$compat/results.xml" "$@" $tests || code=$?
$python -m local_stack.compat_report --stack $stack \
    --results "$compat/results.xml" --report "$compat/report.md"
exit $code
