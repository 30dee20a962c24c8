#!/usr/bin/env bash
# Writes TensorFlow Serving's SSLConfig, which holds the PEM texts themselves, from a folder as a
# kubernetes.io/tls Secret mounts it. With an entry require_client_certificate in it, clients must show a
# certificate that its ca.crt signed.
set -euo pipefail
secret=$1 config=$2

quoted() { # a file as the text format's string
  sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\r$//' -e 's/$/\\n/' "$1" | tr -d '\n'
}

umask 077
# Read before anything is written: inside printf, a file that is missing would pass as an empty one.
key=$(quoted "$secret/tls.key")
certificate=$(quoted "$secret/tls.crt")
{
  printf 'server_key: "%s"\n' "$key"
  printf 'server_cert: "%s"\n' "$certificate"
} >"$config.part"
if [ -e "$secret/require_client_certificate" ]; then
  authority=$(quoted "$secret/ca.crt")
  printf 'custom_ca: "%s"\nclient_verify: true\n' "$authority" >>"$config.part"
fi
mv "$config.part" "$config"
