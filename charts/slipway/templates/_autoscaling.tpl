{{- define "slipway.scaleDownWindow" -}}
{{- .Values.autoscaling.scaleDownWindowSeconds | default (min 3600 (int .Values.streaming.maxTurnSeconds)) | int -}}
{{- end -}}

{{/* Up at once and doubling; down one pod a minute, after the longest turn has had time to end: README, "Autoscaling". */}}
{{- define "slipway.scalingBehavior" -}}
{{- if .Values.autoscaling.behavior -}}
{{- toYaml .Values.autoscaling.behavior -}}
{{- else -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - type: Percent
      value: 100
      periodSeconds: 15
scaleDown:
  stabilizationWindowSeconds: {{ include "slipway.scaleDownWindow" . }}
  policies:
    - type: Pods
      value: 1
      periodSeconds: 60
{{- end -}}
{{- end -}}
