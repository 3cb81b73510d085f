{{- define "operator.fullname" -}}
{{- if contains "slipway-operator" .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-slipway-operator" (.Release.Name | trunc 36 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "operator.selector" -}}
app.kubernetes.io/name: slipway-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
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

{{/* Fails when the cluster lacks an API. Takes (list root api value). */}}
{{- define "operator.needs" -}}
{{- $root := index . 0 -}}
{{- if and $root.Values.checkCRDs (not ($root.Capabilities.APIVersions.Has (index . 1))) -}}
{{- fail (printf "%s needs the API %s, which the cluster lacks: install the Prometheus operator's CRDs, or leave it off (checkCRDs=false renders without a cluster)" (index . 2) (index . 1)) -}}
{{- end -}}
{{- end -}}

{{- define "operator.metricsApiSecret" -}}
{{- .Values.metricsApi.tls.existingSecret | default (printf "%s-metrics-api" (include "operator.fullname" .)) -}}
{{- end -}}

{{/* Refuses what would leave HPAs without an answer. Takes the root. */}}
{{- define "operator.checkMetricsApi" -}}
{{- with .Values.metricsApi -}}
{{- if .enabled -}}
{{- if and .tls.existingSecret (or .tls.certManager (not .tls.caBundle)) -}}
{{- fail "metricsApi.tls.existingSecret: it needs metricsApi.tls.caBundle, by which the API server knows it, and no certManager" -}}
{{- end -}}
{{- if not (or .tls.existingSecret .tls.certManager (lookup "v1" "Secret" $.Release.Namespace "")) -}}
{{- fail "metricsApi.tls: without a cluster (helm template, Argo CD) Helm would make another certificate each time; set certManager=true, or existingSecret and caBundle" -}}
{{- end -}}
{{- if and $.Values.checkCRDs ($.Capabilities.APIVersions.Has "custom.metrics.k8s.io/v1beta1") -}}
{{- fail "metricsApi.enabled: an adapter serves custom.metrics.k8s.io in this cluster, which is asked instead; have it serve agent_concurrency (k8s/custom-metrics), or remove it" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Ports of addresses, each once, separated by commas; of `host` without a scheme as of https. Takes (list addresses). */}}
{{- define "operator.ports" -}}
{{- $ports := list -}}
{{- range compact (index . 0) -}}
{{- $host := regexReplaceAll "^[a-z]+://" . "" | regexFind "^[^/?#]+" -}}
{{- $port := regexFind ":[0-9]{1,5}$" $host | trimPrefix ":" -}}
{{- $ports = append $ports ($port | default (ternary "80" "443" (hasPrefix "http://" .))) -}}
{{- end -}}
{{- $ports | uniq | join "," -}}
{{- end -}}

{{/* Refuses values that contradict each other, and those of older charts with what replaced them. Takes the root. */}}
{{- define "operator.checks" -}}
{{- include "operator.checkMetricsApi" . -}}
{{- $moved := dict
    "watchNamespaces" "watch.namespaces=[{name: …}] with watch.allNamespaces=false"
    "rbac.secretNames" "secretNames of each entry of watch.namespaces"
    "rbac.allSecrets" "secretNames of each entry of watch.namespaces: a right to every Secret is no longer given"
    "networkPolicy.ingressFrom" "networkPolicy.monitoringNamespace"
    "networkPolicy.egressPorts" "networkPolicy.egressTo, whose ports come from keyHosts and prometheus.url, and networkPolicy.extraEgress" -}}
{{- range $old, $new := $moved -}}
{{- $value := $.Values -}}
{{- range splitList "." $old -}}
{{- $value = ternary (get $value .) nil (and (kindIs "map" $value) (hasKey $value .)) -}}
{{- end -}}
{{- if not (kindIs "invalid" $value) -}}
{{- fail (printf "%s is gone: use %s (charts/slipway-operator/README.md, Upgrade)" $old $new) -}}
{{- end -}}
{{- end -}}
{{- if not (or .Values.watch.allNamespaces .Values.watch.namespaces) -}}
{{- fail "watch.namespaces: name at least one namespace, or set watch.allNamespaces=true" -}}
{{- end -}}
{{- $names := list -}}
{{- range .Values.watch.namespaces -}}
{{- if has .name $names -}}
{{- fail (printf "watch.namespaces: %s is there twice" .name) -}}
{{- end -}}
{{- if and .createSecrets (not .secretNames) -}}
{{- fail (printf "watch.namespaces: %s has createSecrets without secretNames, so that nothing could be read back" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}
