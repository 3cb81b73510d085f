{{/* The chart's name, its alias in a parent chart, or nameOverride. */}}
{{- define "operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end -}}

{{/* A text of at most 53 characters; one that is cut ends with a hash of the whole, or two of one beginning would be the same. */}}
{{- define "operator.cut" -}}
{{- if le (len .) 53 -}}
{{- trimSuffix "-" . -}}
{{- else -}}
{{- printf "%s-%s" (trunc 44 . | trimSuffix "-") (sha256sum . | trunc 8) -}}
{{- end -}}
{{- end -}}

{{- define "operator.fullname" -}}
{{- $name := include "operator.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- include "operator.cut" .Values.fullnameOverride -}}
{{- else if and (eq $name "slipway-operator") (contains $name .Release.Name) -}}
{{- include "operator.cut" .Release.Name -}}
{{- else -}}
{{- include "operator.cut" (printf "%s-%s" .Release.Name $name) -}}
{{- end -}}
{{- end -}}

{{/* Label app.kubernetes.io/instance: within a parent chart the alias is a part of it. */}}
{{- define "operator.instance" -}}
{{- $name := include "operator.name" . -}}
{{- if eq $name "slipway-operator" -}}
{{- .Release.Name -}}
{{- else -}}
{{- include "operator.cut" (printf "%s-%s" .Release.Name $name) -}}
{{- end -}}
{{- end -}}

{{- define "operator.selector" -}}
app.kubernetes.io/name: slipway-operator
app.kubernetes.io/instance: {{ include "operator.instance" . | quote }}
{{- end -}}

{{/* All labels of an object. Takes the root. */}}
{{- define "operator.labels" -}}
{{- include "operator.labelsAnd" (list . dict) -}}
{{- end -}}

{{/* The same, each once, with the object's own, which win over commonLabels. Takes (list root labels). */}}
{{- define "operator.labelsAnd" -}}
{{- $own := index . 1 | default dict -}}
{{- with first . -}}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "slipway-operator-%s" .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with merge (dict) $own (.Values.commonLabels | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* repository@digest, else repository:tag; global.imageRegistry takes the place of the repository's host. */}}
{{- define "operator.image" -}}
{{- $repository := .Values.image.repository -}}
{{- with (.Values.global | default dict).imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^[^/]*[.:][^/]*/" $repository "") -}}
{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The release's pull secrets and the parent's (global.imagePullSecrets: names, or [{name: …}]), as in a pod. */}}
{{- define "operator.pullSecrets" -}}
{{- $all := .Values.imagePullSecrets | default list -}}
{{- range (.Values.global | default dict).imagePullSecrets -}}
{{- $all = append $all (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- with uniq $all }}{{ toYaml . }}{{ end -}}
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
{{- fail (printf "%s needs the API %s, which the cluster lacks: install its CRDs, or leave it off (checkCRDs=false renders without a cluster)" (index . 2) (index . 1)) -}}
{{- end -}}
{{- end -}}

{{/* Where the runbooks are: the operator serves them itself, beside its metrics. */}}
{{- define "operator.runbooksUrl" -}}
{{- $given := .Values.monitoring.alerts.runbooksUrl -}}
{{- ternary "" $given (eq $given "docs/runbooks") | default (printf "http://%s-ops.%s.svc:9090/runbooks" (include "operator.fullname" .) .Release.Namespace) | trimSuffix "/" -}}
{{- end -}}

{{/* What the dashboard's uid ends with where each operator brings its own. */}}
{{- define "operator.dashboardSuffix" -}}
{{- if .Values.monitoring.dashboards.perRelease -}}
-{{ printf "%s/%s" .Release.Namespace (include "operator.instance" .) | sha256sum | trunc 8 }}
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
{{- if not .Values.enabled -}}
{{- fail "enabled: it is for the `condition` of a parent chart, which then leaves this one out; to remove a release of its own, use helm uninstall" -}}
{{- end -}}
{{- if has (kindOf .Values.image.tag) (list "int" "int64" "float64") -}}
{{- fail (printf "image.tag: %s is a number, in which 1.10 is 1.1; write it in quotes, or --set-string image.tag=…" (toJson .Values.image.tag)) -}}
{{- end -}}
{{- if and (eq .Values.image.tag "latest") (not .Values.image.digest) -}}
{{- fail "image.tag: `latest` does not say what runs; set a version, or image.digest" -}}
{{- end -}}
{{- $own := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" -}}
{{- range $where, $labels := dict "podLabels" .Values.podLabels "commonLabels" .Values.commonLabels -}}
{{- range $name, $_ := $labels -}}
{{- if has $name $own -}}
{{- fail (printf "%s: %s is the chart's own, by which Services and policies find pods; use another name" $where $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $by := dict
    "POD_NAME" "it is the pod's own" "POD_NAMESPACE" "it is the pod's own" "POD_IP" "it is the pod's own"
    "WATCH_NAMESPACES" "set watch.namespaces" "PROMETHEUS_URL" "set prometheus.url" "PROMETHEUS_ALLOWED_URLS" "set prometheus.allowedUrls"
    "PROMETHEUS_TOKEN_FILE" "set prometheus.tokenSecret" "PROMETHEUS_CA_FILE" "set prometheus.caSecret"
    "RUNBOOKS_URL" "set monitoring.alerts.runbooksUrl"
    "KEY_HOSTS" "set keyHosts" "LOG_LEVEL" "set logLevel" "RESYNC_SECONDS" "set resyncSeconds" "WORKERS" "set workers"
    "PROBE_PORT" "it stays 8080, which probes use" "METRICS_PORT" "it stays 9090, which Services and policies use"
    "METRICS_API_PORT" "set metricsApi.enabled" "METRICS_API_CERTIFICATES" "set metricsApi.enabled" -}}
{{- $given := list -}}
{{- range .Values.extraEnv -}}
{{- if hasKey $by .name -}}
{{- fail (printf "extraEnv: %s belongs to the chart; %s" .name (get $by .name)) -}}
{{- end -}}
{{- if has .name $given -}}
{{- fail (printf "extraEnv: %s stands there twice, and only the last would count" .name) -}}
{{- end -}}
{{- $given = append $given .name -}}
{{- end -}}
{{- if and .Values.prometheus.tokenSecret (not (hasPrefix "https://" .Values.prometheus.url)) -}}
{{- fail "prometheus.tokenSecret: a token goes by https only; set prometheus.url to the https address of your Prometheus" -}}
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
