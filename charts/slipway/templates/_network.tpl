{{/* 443 and the ports of the addresses in the values, separated by commas. */}}
{{- define "slipway.egressPorts" -}}
{{- $ports := list "443" -}}
{{- range compact (list .Values.model.baseUrl .Values.auth.jwt.jwksUrl (.Values.env.OTEL_EXPORTER_OTLP_ENDPOINT | default "")) -}}
{{- $url := urlParse . -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $ports = append $ports ($port | default (ternary "80" "443" (eq $url.scheme "http"))) -}}
{{- end -}}
{{- $ports | uniq | join "," -}}
{{- end -}}
