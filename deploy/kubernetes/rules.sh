#!/bin/sh
# Prints deploy/prometheus's rules as the Prometheus operator takes them: kubectl apply -n latentd -f <(deploy/kubernetes/rules.sh)
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
