#!/bin/sh
# Print where this machine's apt gets its distribution's packages, for debootstrap.
awk '
    /^URIs:/ && !/security/ { print $2; exit }
    /^deb / && !/security/ {
        for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) { print $i; exit }
    }
' /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.list 2>/dev/null
