#!/bin/sh
# uacme calls it with: begin, done or failed; the type; the identifier; the token; the key authorisation or its digest.
set -eu
. "$(dirname "$0")/challenges.sh"

# Declines every type but the one that is to be shown; uacme then offers the next.
[ "$2" = "$WANTED" ] || exit 1
digest_in_pairs() {
    printf '%s=' "$1" | tr -- '-_' '+/' | base64 -d | od -An -v -tx1 | tr -d '\n' | sed 's/^ //; s/ /:/g'
}
case "$1 $2" in
"begin http-01") put_file "$4" "$5" ;;
"begin dns-01") put_record "$3" "$5" ;;
"begin tls-alpn-01")
    make_proof "$3" "$(digest_in_pairs "$5")"
    serve_proof "$WORK/proof.crt" "$WORK/proof.key"
    ;;
*" http-01") drop_file "$4" ;;
*" dns-01") drop_record "$3" ;;
*" tls-alpn-01") drop_proof ;;
esac
