#!/bin/sh
# lego calls it with `present` or `cleanup`, the name of the record with a dot at its end, and the value.
set -eu
. "$(dirname "$0")/challenges.sh"

name=${2#_acme-challenge.}
case "$1" in
present) put_record "${name%.}" "$3" ;;
cleanup) drop_record "${name%.}" ;;
esac
