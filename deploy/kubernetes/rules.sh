#!/bin/sh
# Prints the rules of deploy/prometheus as objects of the Prometheus operator:
# deploy/kubernetes/rules.sh | kubectl apply -n latentd -f -
set -eu
cd "$(dirname "$0")/../prometheus"
for name in recording alerts; do
  cat <<HEAD
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: latentd-$name
  labels: {app.kubernetes.io/name: latentd}
spec:
HEAD
  sed 's/^/  /' "$name.yml"
done
