#!/bin/sh
# dehydrated calls it with: what happens; then for challenges the name, the token, and the proof.
set -eu
. "$(dirname "$0")/challenges.sh"

case "$1 ${WANTED:-}" in
# dehydrated has written the file, too; where, only a web server of this machine would care.
"deploy_challenge http-01") put_file "$3" "$4" ;;
"clean_challenge http-01") drop_file "$3" ;;
"deploy_challenge dns-01") put_record "$2" "$4" ;;
"clean_challenge dns-01") drop_record "$2" ;;
# It makes the certificate of the proof itself.
"deploy_challenge tls-alpn-01") serve_proof "$WORK/alpn-certs/$2.crt.pem" "$WORK/alpn-certs/$2.key.pem" ;;
"clean_challenge tls-alpn-01") drop_proof ;;
esac
