{{/* A Role's name holds the operator's namespace: two releases of one name may watch the same namespace. Takes the root. */}}
{{- define "operator.roleName" -}}
{{ include "operator.fullname" . }}-{{ .Release.Namespace }}
{{- end -}}

{{- define "operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "operator.serviceAccountName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end -}}

{{/* What it needs wherever it attends to objects: to see, to say, and to be the only one. tests/charts/operator/test_rights.py
     holds each verb against what the code calls. Takes the root. */}}
{{- define "operator.looks" -}}
- apiGroups: [slipway.dev]
  resources: [keyrotations, alertpolicies, agenthealths]
  verbs: [get, list, watch]
- apiGroups: [slipway.dev]
  resources: [keyrotations/status, alertpolicies/status, agenthealths/status]
  verbs: [update]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
# One operator at a time attends to a namespace. A name cannot limit the create.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [slipway-operator]
  verbs: [get, update]
# What AgentHealth looks at, and the pods that a rotation waits for.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list]
{{- end -}}

{{/* What it may change in one namespace. Takes an entry of watch.namespaces. */}}
{{- define "operator.changes" -}}
# What an AlertPolicy is made into; AgentHealth lists the rules of a release.
- apiGroups: [monitoring.coreos.com]
  resources: [prometheusrules]
  verbs: [get, list, create, patch, update, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [alertmanagerconfigs]
  verbs: [get, create, patch, update, delete]
{{- if .configMaps }}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch, update, delete]
{{- end }}
{{- if or .secretNames .createSecrets }}
# The finalizer.
- apiGroups: [slipway.dev]
  resources: [keyrotations]
  verbs: [update]
{{- end }}
{{- with .secretNames }}
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{- toYaml . | nindent 4 }}
  verbs: [get, update{{ if $.createSecrets }}, delete{{ end }}]
{{- end }}
{{- if .createSecrets }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
{{- end }}
{{- end -}}
