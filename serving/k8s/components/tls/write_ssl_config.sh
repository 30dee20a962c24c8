#!/usr/bin/env bash
# Writes TensorFlow Serving's SSLConfig, which contains the PEM texts, from a mounted kubernetes.io/tls Secret.
# If the Secret has an entry require_client_certificate, clients need a certificate signed by its ca.crt.
set -euo pipefail
secret=$1 config=$2

quoted() { # print a file as a string of the protobuf text format
  sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\r$//' -e 's/$/\\n/' "$1" | tr -d '\n'
}

umask 077
# Read the files first: inside printf, a missing file would become an empty string.
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
