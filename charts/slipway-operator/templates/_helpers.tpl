{{- define "operator.fullname" -}}
{{- if contains "slipway-operator" .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-slipway-operator" (.Release.Name | trunc 36 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "operator.selector" -}}
app.kubernetes.io/name: slipway-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "operator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "operator.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* What the operator does in the namespaces that it watches. Takes the root. */}}
{{- define "operator.rules" -}}
- apiGroups: [slipway.dev]
  resources: [keyrotations, alertpolicies, agenthealths]
  verbs: [get, list, watch]
- apiGroups: [slipway.dev]
  resources: [keyrotations/status, alertpolicies/status, agenthealths/status]
  verbs: [get, update]
# Its finalizer, and the annotations that ask for a rotation once.
- apiGroups: [slipway.dev]
  resources: [keyrotations]
  verbs: [update]
# What an AlertPolicy is made into.
- apiGroups: [monitoring.coreos.com]
  resources: [prometheusrules, alertmanagerconfigs]
  verbs: [get, list, create, patch, update, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch, update, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
# What AgentHealth looks at.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list]
{{- if .Values.rbac.allSecrets }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, update, delete]
{{- else if .Values.rbac.secretNames }}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{- toYaml .Values.rbac.secretNames | nindent 4 }}
  verbs: [get, update, delete]
# A name cannot limit a create; what is created it cannot read back unless it is named above.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
{{- end }}
{{- end -}}

{{/* Fails when the cluster lacks an API. Takes (list root api value). */}}
{{- define "operator.needs" -}}
{{- $root := index . 0 -}}
{{- if and $root.Values.checkCRDs (not ($root.Capabilities.APIVersions.Has (index . 1))) -}}
{{- fail (printf "%s needs the API %s, which the cluster lacks: install the Prometheus operator's CRDs, or leave it off (checkCRDs=false renders without a cluster)" (index . 2) (index . 1)) -}}
{{- end -}}
{{- end -}}
