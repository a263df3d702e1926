#!/bin/sh
# Makes the certificates of `tests/tls.rs` anew, in this folder. Their dates are far apart, so that no clock matters.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cat > "$work/ca.cnf" <<CNF
[ca]
default_ca = d
[d]
database = $work/index
serial = $work/serial
new_certs_dir = $work
default_md = sha256
policy = p
unique_subject = no
[p]
commonName = supplied
[ca_plain]
basicConstraints = critical,CA:TRUE
[ca_named]
basicConstraints = critical,CA:TRUE
subjectAltName = DNS:registry.test,IP:192.0.2.7
[leaf]
basicConstraints = CA:FALSE
subjectAltName = DNS:registry.test
[other]
basicConstraints = CA:FALSE
subjectAltName = DNS:other.test
[client]
basicConstraints = CA:FALSE
extendedKeyUsage = clientAuth
CNF
touch "$work/index"; echo 1000 > "$work/serial"
request() { # NAME KEY
  [ -e "$2" ] || openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$2"
  openssl req -new -key "$2" -subj "/CN=$1" -out "$work/$1.csr"
}
sign() { # NAME SECTION END OPTIONS...
  name=$1 section=$2 end=$3; shift 3
  openssl ca -batch -notext -config "$work/ca.cnf" -in "$work/$name.csr" -out "$name.crt" -extensions "$section" \
    -startdate 20200101000000Z -enddate "$end" "$@"
}
far=21200101000000Z
rm -f server.key alone.key client.key
request root "$work/root.key"; sign root ca_plain $far -selfsign -keyfile "$work/root.key"
request alone alone.key; sign alone ca_named $far -selfsign -keyfile alone.key
request stranger "$work/stranger.key"; sign stranger ca_named $far -selfsign -keyfile "$work/stranger.key"
by_root() { sign "$@" -cert root.crt -keyfile "$work/root.key"; }
request leaf server.key; by_root leaf leaf $far
request expired server.key; by_root expired leaf 20210101000000Z
request other server.key; by_root other other $far
request client client.key; by_root client client $far
