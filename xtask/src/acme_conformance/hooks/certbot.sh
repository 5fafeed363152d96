#!/bin/sh
# certbot calls it with `present` or `clean`, as its options say, and tells the rest by variables.
set -eu
. "$(dirname "$0")/challenges.sh"

case "$1 $WANTED" in
"present http-01") put_file "$CERTBOT_TOKEN" "$CERTBOT_VALIDATION" ;;
"clean http-01") drop_file "$CERTBOT_TOKEN" ;;
"present dns-01") put_record "$CERTBOT_DOMAIN" "$CERTBOT_VALIDATION" ;;
"clean dns-01") drop_record "$CERTBOT_DOMAIN" ;;
esac
