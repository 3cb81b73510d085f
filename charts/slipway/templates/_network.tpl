{{/* Fields of a Service; empty: the cluster's own choice. */}}
{{- define "slipway.ipFamilies" -}}
{{- with .Values.service.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.service.ipFamilies }}
ipFamilies: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* 443 and the ports of the addresses in the values, those of `env` and `extraEnv` (a collector, LangSmith, a proxy) among them, separated by commas. */}}
{{- define "slipway.egressPorts" -}}
{{- $ports := list "443" -}}
{{- $urls := list .Values.model.baseUrl .Values.auth.jwt.jwksUrl .Values.auth.oidc.issuer -}}
{{- range $_, $value := .Values.env -}}
{{- $urls = append $urls (toString $value) -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- $urls = append $urls (.value | default "" | toString) -}}
{{- end -}}
{{- range compact $urls -}}
{{- /* not urlParse: it ends the render at a value that only begins like an address */ -}}
{{- with regexFind "^https?://[^/?#]+" . -}}
{{- $port := regexFind ":[0-9]{1,5}$" . | trimPrefix ":" -}}
{{- $ports = append $ports ($port | default (ternary "80" "443" (hasPrefix "http:" .))) -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | join "," -}}
{{- end -}}
