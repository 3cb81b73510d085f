{{/* Names and labels. Other charts, rules and dashboards rely on them: docs/operations/chart.md. */}}

{{/* A text of at most so many characters; one that is cut ends with a hash of the whole, or two of one beginning would be the same. Takes (list text most). */}}
{{- define "slipway.cut" -}}
{{- $text := index . 0 -}}{{- $most := index . 1 -}}
{{- if le (len $text) $most -}}
{{- trimSuffix "-" $text -}}
{{- else -}}
{{- printf "%s-%s" (trunc (int (sub $most 9)) $text | trimSuffix "-") (sha256sum $text | trunc 8) -}}
{{- end -}}
{{- end -}}

{{/* The chart's name, or its alias in a parent chart: two of one parent are two agents. */}}
{{- define "slipway.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end -}}

{{- define "slipway.fullname" -}}
{{- $name := include "slipway.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- include "slipway.cut" (list .Values.fullnameOverride 42) -}}
{{- /* not for aliases: `agent` and `agents` of the release `agents` would both be called so */ -}}
{{- else if and (eq $name "slipway") (contains $name .Release.Name) -}}
{{- include "slipway.cut" (list .Release.Name 42) -}}
{{- else -}}
{{- include "slipway.cut" (list (printf "%s-%s" .Release.Name $name) 42) -}}
{{- end -}}
{{- end -}}

{{/* Label app.kubernetes.io/instance: what rules, dashboards, doctor and AgentHealth know the agent by; the CRDs take 53 characters. */}}
{{- define "slipway.instance" -}}
{{- $name := include "slipway.name" . -}}
{{- if eq $name "slipway" -}}
{{- .Release.Name -}}
{{- else -}}
{{- include "slipway.cut" (list (printf "%s-%s" .Release.Name $name) 53) -}}
{{- end -}}
{{- end -}}

{{/* Labels of a Service's or workload's selector. Takes (list root component). */}}
{{- define "slipway.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: slipway
app.kubernetes.io/instance: {{ include "slipway.instance" $root | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* All labels of an object, each once. Takes (list root component), and as a third the object's own, which win over commonLabels. */}}
{{- define "slipway.labels" -}}
{{- $root := first . -}}
{{ include "slipway.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "slipway-%s" $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with merge (dict) (index (append . nil) 2 | default dict) ($root.Values.commonLabels | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of a pod. Takes (list root component). */}}
{{- define "slipway.podLabels" -}}
{{ include "slipway.selector" . }}
{{- with merge (dict) ((first .).Values.podLabels | default dict) ((first .).Values.commonLabels | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* repository@digest, else repository:tag; global.imageRegistry takes the place of the repository's host. Takes (dict root image tag), the tag being the one to use without image.tag. */}}
{{- define "slipway.image" -}}
{{- $repository := .image.repository -}}
{{- with (.root.Values.global | default dict).imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^[^/]*[.:][^/]*/" $repository "") -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.image.tag | default .tag) -}}
{{- end -}}
{{- end -}}

{{/* The release's pull secrets and the parent's (global.imagePullSecrets: names, or [{name: …}]), as in a pod. */}}
{{- define "slipway.pullSecrets" -}}
{{- $names := list -}}
{{- range concat (.Values.imagePullSecrets | default list) ((.Values.global | default dict).imagePullSecrets | default list) -}}
{{- $names = append $names (ternary . (get (ternary dict . (kindIs "string" .)) "name") (kindIs "string" .)) -}}
{{- end -}}
{{- range uniq $names }}
- name: {{ . | quote }}
{{- end -}}
{{- end -}}

{{/* "true" where the database is yours. */}}
{{- define "slipway.externalPostgres" -}}
{{- if .Values.postgres.existingSecret -}}true{{- end -}}
{{- end -}}

{{/* What a dashboard's uid ends with where each release brings its own. */}}
{{- define "slipway.dashboardSuffix" -}}
{{- if .Values.monitoring.dashboards.perRelease -}}
-{{ printf "%s/%s" .Release.Namespace (include "slipway.instance" .) | sha256sum | trunc 8 }}
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
