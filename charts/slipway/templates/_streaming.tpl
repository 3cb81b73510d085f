{{/*
One number, streaming.maxTurnSeconds. The parts are constants of service/agent_service/main.py and runs/worker.py; tests/charts/test_streaming.py
compares them, and README.md's table.
*/}}

{{/* Seconds a drain takes at most: runs finish or are handed over (5, and 10 to write), streams end (5), requests end (5). */}}
{{- define "slipway.drainTakes" -}}
{{- $runs := add (int .Values.streaming.maxTurnSeconds) 5 10 -}}
{{- add (max $runs (int .Values.streaming.drainMinSeconds)) 5 5 -}}
{{- end -}}

{{/* The least grace period: preStop counts, and 5 seconds are left for telemetry, the pool and the kubelet. */}}
{{- define "slipway.graceNeeded" -}}
{{- add (int .Values.preStopSleepSeconds) (include "slipway.drainTakes" . | int) 5 -}}
{{- end -}}

{{- define "slipway.grace" -}}
{{- .Values.terminationGracePeriodSeconds | default (include "slipway.graceNeeded" .) | int -}}
{{- end -}}
