#!/bin/sh
# Become a program of another root: in_root.sh ROOT DIRECTORY RUN PROGRAM ARGUMENTS...
# Called in a mount namespace of its own. The stack's two folders are at the same paths inside, so
# that configuration files and sockets need no translation.
set -eu
root=$1
for folder in "$2" "$3"; do
    mkdir -p "$root$folder"
    mount --bind "$folder" "$root$folder"
done
shift 3
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
exec chroot "$root" "$@"
