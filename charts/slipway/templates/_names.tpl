{{/* Names and labels. Other charts, rules and dashboards rely on them: docs/operations/chart.md. */}}

{{- define "slipway.fullname" -}}
{{- if contains "slipway" .Release.Name -}}
{{- .Release.Name | trunc 42 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-slipway" (.Release.Name | trunc 34 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* Labels of a Service's or workload's selector. Takes (list root component). */}}
{{- define "slipway.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: slipway
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ last . }}
{{- end -}}

{{/* All labels of an object. Takes (list root component). */}}
{{- define "slipway.labels" -}}
{{- $root := first . -}}
{{ include "slipway.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* repository@digest, else repository:tag. Takes (dict image tag), the tag being the one to use without image.tag. */}}
{{- define "slipway.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .tag) -}}
{{- end -}}
{{- end -}}

{{- define "slipway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "slipway.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "slipway.postgresSecret" -}}
{{- .Values.postgres.existingSecret | default (printf "%s-postgres" (include "slipway.fullname" .)) -}}
{{- end -}}
