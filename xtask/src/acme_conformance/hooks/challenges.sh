# Puts proofs where a server looks for them; for the hooks of the clients, which source this.
#
# CHALLENGES is the management interface of pebble-challtestsrv, TLS_AT the address and port of proofs by TLS, WORK a folder.

tell() {
    curl --silent --show-error --fail --max-time 10 --data "$2" "$CHALLENGES/$1" >/dev/null
}

put_file() {
    tell add-http01 "{\"token\":\"$1\",\"content\":\"$2\"}"
}

drop_file() {
    tell del-http01 "{\"token\":\"$1\"}"
}

put_record() {
    tell set-txt "{\"host\":\"_acme-challenge.${1#\*.}.\",\"value\":\"$2\"}"
}

drop_record() {
    tell clear-txt "{\"host\":\"_acme-challenge.${1#\*.}.\"}"
}

# A certificate as RFC 8737 §3 wants it: for a name, with the digest in hexadecimal pairs with colons.
make_proof() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj "/CN=$1" \
        -addext "subjectAltName=DNS:$1" -addext "1.3.6.1.5.5.7.1.31=critical,DER:04:20:$2" \
        -keyout "$WORK/proof.key" -out "$WORK/proof.crt" 2>/dev/null
}

# Serves a certificate and its key, at most for a minute.
serve_proof() {
    timeout 60 openssl s_server -rev -alpn acme-tls/1 -accept "$TLS_AT" -cert "$1" -key "$2" >/dev/null 2>&1 </dev/null &
    echo $! >"$WORK/proof.pid"
    for _ in $(seq 100); do
        openssl s_client -connect "$TLS_AT" -alpn acme-tls/1 </dev/null >/dev/null 2>&1 && return 0
        sleep 0.05
    done
    return 1
}

drop_proof() {
    kill "$(cat "$WORK/proof.pid")" 2>/dev/null || true
    rm -f "$WORK/proof.pid"
}
