#!/bin/sh
# Prints deploy/prometheus's rules as the Prometheus operator takes them: deploy/kubernetes/rules.sh | kubectl apply -n latentd -f -
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
