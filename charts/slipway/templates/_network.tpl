{{/* 443 and the ports of the addresses in the values, those of `env` and `extraEnv` (a collector, LangSmith, a proxy) among them, separated by commas. */}}
{{- define "slipway.egressPorts" -}}
{{- $ports := list "443" -}}
{{- $urls := list .Values.model.baseUrl .Values.auth.jwt.jwksUrl -}}
{{- range $_, $value := .Values.env -}}
{{- $urls = append $urls (toString $value) -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- $urls = append $urls (.value | default "" | toString) -}}
{{- end -}}
{{- range $urls -}}
{{- if regexMatch "^https?://[^/]" . -}}
{{- $url := urlParse . -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $ports = append $ports ($port | default (ternary "80" "443" (eq $url.scheme "http"))) -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | join "," -}}
{{- end -}}
