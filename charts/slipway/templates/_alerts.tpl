{{/*
The alerts of files/alerts.yaml with this release, its links, thresholds and objectives in it: YAML with `groups`.

The file has names in double underscores for them (tools/alert_rules.py). A share has forms: `_PERCENT`, and `_VOLUME`, the events of
which the share is two.
*/}}
{{- define "slipway.alerts" -}}
{{- $alerts := .Values.monitoring.alerts -}}
{{- $text := .Files.Get "files/alerts.yaml"
    | replace "__NAMESPACE__" .Release.Namespace
    | replace "__JOB__" (include "slipway.instance" .)
    | replace "__RUNBOOKS__" (include "slipway.runbooksUrl" .)
    | replace "__GRAFANA__" (trimSuffix "/" $alerts.grafanaUrl) -}}
{{- $text = regexReplaceAll "/d/(slipway-[a-z-]+)" $text (printf "/d/${1}%s" (include "slipway.dashboardSuffix" .)) -}}
{{- $turn := include "slipway.slowTurnSeconds" . -}}
{{- $text = $text | replace "__TURN_SECONDS__" $turn | replace "__TURN_BOUND__" (ternary (printf "le=\"%s\"" $turn) (printf "le=~\"%s|%s\\\\.0\"" $turn $turn) (contains "." $turn)) -}}
{{- range $name, $value := $alerts.thresholds -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $upper := snakecase $name | upper -}}
{{- $text = $text
    | replace (printf "__%s__" $upper) (printf "%.6g" (float64 $value))
    | replace (printf "__%s_PERCENT__" $upper) (printf "%.6g" (mulf 100 $value | float64))
    | replace (printf "__%s_VOLUME__" $upper) (round (divf 2 $value) 6 | ceil | int | toString) -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := $alerts.objectives -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $upper := printf "OBJECTIVE_%s" (upper $name) -}}
{{- $text = replace (printf "__%s_PERCENT__" $upper) (printf "%.6g" (mulf 100 $value | float64)) $text -}}
{{- /* how fast a budget burns in each pair of windows; a share of bad events above 0.9 says nothing more (rules/slo.py) */ -}}
{{- range list 14.4 6.0 3.0 1.0 -}}
{{- $text = replace (printf "__%s_LEFT_%g__" $upper .) (printf "%.6g" (minf 0.9 (mulf . (subf 1 $value)) | float64)) $text -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/*
Where this release's runbooks are: the agent serves them itself, by the name that people have for it, or else by its Service, which
opens within the cluster alone. A Gateway's certificate is not in the values: its hosts are taken to have one.
*/}}
{{- define "slipway.runbooksUrl" -}}
{{- $hosts := list -}}
{{- if .Values.ingress.enabled -}}
{{- $certified := ternary (concat (list .Values.ingress.host) (.Values.ingress.hosts | default list)) list (ne .Values.ingress.tlsSecret "") -}}
{{- range .Values.ingress.tls -}}
{{- $certified = concat $certified .hosts -}}
{{- end -}}
{{- range compact (concat (list .Values.ingress.host) (.Values.ingress.hosts | default list)) -}}
{{- $hosts = append $hosts (printf "%s://%s" (ternary "https" "http" (has . $certified)) .) -}}
{{- end -}}
{{- end -}}
{{- if .Values.httpRoute.enabled -}}
{{- range .Values.httpRoute.hostnames -}}
{{- $hosts = append $hosts (printf "https://%s" .) -}}
{{- end -}}
{{- end -}}
{{- $named := list (include "slipway.publicUrl" .) -}}
{{- range $hosts -}}
{{- if not (contains "*" .) -}}{{- $named = append $named . -}}{{- end -}}
{{- end -}}
{{- $base := first (append (compact $named) (printf "http://%s.%s.svc" (include "slipway.fullname" .) .Release.Namespace)) -}}
{{- $given := .Values.monitoring.alerts.runbooksUrl -}}
{{- ternary "" $given (eq $given "docs/runbooks") | default (printf "%s/runbooks" (trimSuffix "/" $base)) | trimSuffix "/" -}}
{{- end -}}

{{/* 30, or the highest bound of the histogram within the longest turn: an alert on slower turns than there can be would never fire. */}}
{{- define "slipway.slowTurnSeconds" -}}
{{- $seconds := .Values.monitoring.alerts.thresholds.turnSeconds -}}
{{- if kindIs "invalid" $seconds -}}
{{- $longest := int .Values.streaming.maxTurnSeconds -}}
{{- range list 5 10 20 30 -}}
{{- if le . $longest -}}{{- $seconds = . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- printf "%.6g" (float64 $seconds) -}}
{{- end -}}

{{/* "true" for a rule that the values ask for. Takes (list root rule). */}}
{{- define "slipway.wantsAlert" -}}
{{- $alerts := (first .).Values.monitoring.alerts -}}{{- $rule := last . -}}
{{- $slo := $rule.labels.slo | default "" -}}
{{- $unset := or (and $slo (not (get $alerts.objectives $slo))) (and (eq $rule.alert "AgentBudgetNearlySpent") (not $alerts.thresholds.dailyBudgetUsd)) -}}
{{- if not (or $unset (has $rule.alert $alerts.disabled)) -}}true{{- end -}}
{{- end -}}
