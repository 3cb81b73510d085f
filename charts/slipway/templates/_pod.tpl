{{/* Environment that the chart sets; `env` and `extraEnv` may not name these again (_checks.tpl). */}}
{{- define "slipway.databaseEnv" -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "slipway.postgresSecret" . | quote }}
      key: {{ ternary .Values.postgres.key "url" (eq (include "slipway.externalPostgres" .) "true") | quote }}
{{- if .Values.postgres.existingSecret }}
- name: DATABASE_URL_FILE
  value: /run/secrets/database/{{ .Values.postgres.key }}
{{- if .Values.postgres.caSecret }}
- name: PGSSLROOTCERT
  value: /run/secrets/database/ca.crt
- name: PGSSLMODE
  value: verify-full
{{- end }}
{{- end }}
{{- end -}}

{{/* The address is followed while a process runs; libpq reads certificates at each connection. */}}
{{- define "slipway.databaseVolume" -}}
{{- with .Values.postgres }}
{{- if .existingSecret }}
- name: database
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .existingSecret | quote }}
      {{- with .caSecret }}
      - secret:
          name: {{ . | quote }}
          items:
            - key: ca.crt
              path: ca.crt
      {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "slipway.databaseMount" -}}
{{- if .Values.postgres.existingSecret }}
- name: database
  mountPath: /run/secrets/database
  readOnly: true
{{- end }}
{{- end -}}

{{- define "slipway.env" -}}
{{ include "slipway.databaseEnv" . }}
{{- if include "slipway.listensOnIPv6" . }}
# both families: 0.0.0.0, as in the image, is IPv4 only
- name: HOST
  value: "::"
- name: OPS_HOST
  value: "::"
{{- end }}
- name: MAX_TURN_SECONDS
  value: {{ .Values.streaming.maxTurnSeconds | int | quote }}
- name: DRAIN_SECONDS
  value: {{ .Values.streaming.maxTurnSeconds | int | quote }}
- name: DRAIN_MIN_SECONDS
  value: {{ .Values.streaming.drainMinSeconds | int | quote }}
- name: MAX_CONCURRENT_RUNS
  value: {{ .Values.streaming.maxConcurrentRuns | int | quote }}
{{ include "slipway.limitsEnv" . | trim }}
{{ include "slipway.modelEnv" . }}
{{ include "slipway.authEnv" . }}
{{- include "slipway.protocolsEnv" . }}
{{- include "slipway.oidcEnv" . }}
{{- if .Values.graph.module }}
- name: AGENT_GRAPH
  value: {{ .Values.graph.module | quote }}
{{- end }}
{{- with .Values.graph.langgraphJson }}
- name: LANGGRAPH_CONFIG
  value: {{ . | quote }}
{{- end }}
- name: GRAPH_VERSION
  value: {{ include "slipway.graphVersion" . | quote }}
{{- if include "slipway.graphVolume" . }}
- name: AGENT_GRAPH_DIR
  value: /opt/graph
{{- end }}
{{- if .Values.graph.prices }}
- name: PRICE_FILE
  value: /etc/slipway/prices.yaml
{{- end }}
{{- if .Values.guardrails.inputRules }}
- name: INPUT_RULES_FILE
  value: /etc/slipway-rules/rules.yaml
{{- end }}
{{- end -}}

{{/*
What the metrics of quality are told apart by: the image's tag; with graph.files their hash, too, as the same image then serves another graph.
*/}}
{{- define "slipway.graphVersion" -}}
{{- if .Values.graph.version -}}
{{- .Values.graph.version -}}
{{- else -}}
{{- .Values.image.tag | default .Chart.AppVersion | trunc 50 -}}
{{- with .Values.graph.files }}-{{ toJson . | sha256sum | trunc 8 }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slipway.limitsEnv" -}}
{{- range $name, $value := dict "RATE_LIMIT_PER_MINUTE" .Values.limits.ratePerMinute "MAX_RUNS_PER_PRINCIPAL" .Values.limits.runsPerCaller
  "MAX_RUN_TOKENS" .Values.budgets.run.tokens "DAILY_TOKEN_LIMIT" .Values.budgets.userPerDay.tokens
  "MONTHLY_TENANT_TOKEN_LIMIT" .Values.budgets.tenantPerMonth.tokens }}
{{- if not (kindIs "invalid" $value) }}
- name: {{ $name }}
  value: {{ $value | int64 | quote }}
{{- end }}
{{- end }}
{{- range $name, $value := dict "MAX_RUN_USD" .Values.budgets.run.usd "DAILY_USD_LIMIT" .Values.budgets.userPerDay.usd
  "MONTHLY_TENANT_USD_LIMIT" .Values.budgets.tenantPerMonth.usd }}
{{- if $value }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}
{{- with .Values.responseCache }}
{{- if .seconds }}
- name: RESPONSE_CACHE_SECONDS
  value: {{ .seconds | toString | quote }}
- name: RESPONSE_CACHE_SCOPE
  value: {{ .scope | quote }}
{{- with .graphs }}
- name: RESPONSE_CACHE_GRAPHS
  value: {{ join "," . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.files.graphs }}
- name: FILE_GRAPHS
  value: {{ join "," . | quote }}
{{- end }}
{{- if not (kindIs "invalid" .Values.crons.ownerDays) }}
- name: CRON_OWNER_DAYS
  value: {{ .Values.crons.ownerDays | toString | quote }}
{{- end }}
{{- with .Values.limits.redis }}
{{- if .existingSecret }}
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret | quote }}
      key: {{ .key | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "slipway.modelEnv" -}}
{{- with .Values.model -}}
- name: MODEL
  value: {{ .name | quote }}
{{- with .cheapName }}
- name: CHEAP_MODEL
  value: {{ . | quote }}
{{- end }}
{{- with .fallbackName }}
- name: FALLBACK_MODEL
  value: {{ . | quote }}
{{- end }}
{{- with .baseUrl }}
- name: OPENAI_BASE_URL
  value: {{ . | quote }}
{{- end }}
{{- if .acceptImages }}
- name: ACCEPT_IMAGES
  value: "true"
{{- end }}
{{- if .existingSecret }}
- name: OPENAI_KEY_DIR
  value: /run/secrets/openai
{{- else if not .needsKey }}
# the client wants a text, and the endpoint none
- name: OPENAI_API_KEY
  value: none
{{- end }}
{{- end -}}
{{- end -}}

{{/* Names of browsers' calls, with authentication off: of the Ingress, of the HTTPRoute (a wildcard is none), and others. */}}
{{- define "slipway.allowedHosts" -}}
{{- $hosts := .Values.auth.allowedHosts -}}
{{- if and .Values.ingress.enabled .Values.ingress.host -}}
{{- $hosts = append $hosts .Values.ingress.host -}}
{{- end -}}
{{- if .Values.ingress.enabled -}}
{{- $hosts = concat $hosts (.Values.ingress.hosts | default list) -}}
{{- end -}}
{{- if .Values.httpRoute.enabled -}}
{{- $hosts = concat $hosts .Values.httpRoute.hostnames -}}
{{- end -}}
{{- $names := list -}}
{{- range $hosts -}}
{{- if not (contains "*" .) -}}
{{- $names = append $names . -}}
{{- end -}}
{{- end -}}
{{- join "," (uniq $names) -}}
{{- end -}}

{{/* A pod's security context, without ids where the platform assigns them. */}}
{{- define "slipway.podSecurityContext" -}}
{{- if .Values.openshift -}}
{{- omit (.Values.podSecurityContext | default dict) "fsGroup" "fsGroupChangePolicy" "runAsUser" "runAsGroup" "supplementalGroups" | toYaml -}}
{{- else -}}
{{- toYaml .Values.podSecurityContext -}}
{{- end -}}
{{- end -}}

{{/* The same for a container. */}}
{{- define "slipway.securityContext" -}}
{{- if .Values.openshift -}}
{{- omit (.Values.securityContext | default dict) "runAsUser" "runAsGroup" | toYaml -}}
{{- else -}}
{{- toYaml .Values.securityContext -}}
{{- end -}}
{{- end -}}

{{- define "slipway.listensOnIPv6" -}}
{{- if or (has "IPv6" (.Values.service.ipFamilies | default list)) (ne (.Values.service.ipFamilyPolicy | default "SingleStack") "SingleStack") -}}true{{- end -}}
{{- end -}}

{{/* What differs from the service's own defaults. */}}
{{- define "slipway.protocolsEnv" -}}
{{- with .Values.protocols -}}
{{- if not .mcp }}
- name: MCP
  value: "off"
{{- end }}
{{- if not .a2a }}
- name: A2A
  value: "off"
{{- end }}
{{- if .publicAgentCard }}
- name: PUBLIC_AGENT_CARD
  value: "true"
{{- end }}
{{- with .description }}
- name: AGENT_DESCRIPTION
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- with include "slipway.publicUrl" . }}
- name: PUBLIC_URL
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* By which clients reach the service, as far as the values say it. */}}
{{- define "slipway.publicUrl" -}}
{{- if .Values.protocols.publicUrl -}}
{{- .Values.protocols.publicUrl -}}
{{- else if and .Values.ingress.enabled .Values.ingress.host (not (contains "*" .Values.ingress.host)) (or .Values.ingress.tlsSecret (include "slipway.hasCertificate" .)) -}}
{{- printf "https://%s" .Values.ingress.host -}}
{{- end -}}
{{- end -}}

{{/* "true" when one of ingress.tls is for ingress.host. */}}
{{- define "slipway.hasCertificate" -}}
{{- range .Values.ingress.tls -}}
{{- if has $.Values.ingress.host .hosts -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* Not for the Helm test, which signs nobody in. */}}
{{- define "slipway.oidcEnv" -}}
{{- with .Values.auth.oidc }}
{{- if .issuer }}
- name: OIDC_ISSUER
  value: {{ .issuer | quote }}
- name: OIDC_CLIENT_ID
  value: {{ .clientId | quote }}
- name: OIDC_SCOPES
  value: {{ .scopes | quote }}
{{- with .existingSecret }}
- name: OIDC_CLIENT_SECRET
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: {{ $.Values.auth.oidc.key | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "slipway.authEnv" -}}
- name: AUTH
  value: {{ .Values.auth.mode }}
{{- if eq .Values.auth.mode "disabled" }}
- name: AUTH_DISABLED_ON_ANY_ADDRESS
  value: {{ .Values.auth.disabledOnAnyAddress | quote }}
{{- with include "slipway.allowedHosts" . }}
- name: ALLOWED_HOSTS
  value: {{ . | quote }}
{{- end }}
{{- else }}
{{- with include "slipway.jwtSecretName" . }}
- name: JWT_SECRET
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: {{ ternary $.Values.auth.jwt.key "jwt-secret" (eq . $.Values.auth.jwt.existingSecret) | quote }}
{{- end }}
{{- if include "slipway.jwtFolderSecret" . }}
- name: JWT_SECRET_DIR
  value: /run/secrets/jwt
{{- end }}
{{- with .Values.auth.jwt }}
{{- with .jwksUrl }}
- name: JWT_JWKS_URL
  value: {{ . | quote }}
{{- end }}
{{- with .issuer }}
- name: JWT_ISSUER
  value: {{ . | quote }}
{{- end }}
{{- with .audience }}
- name: JWT_AUDIENCE
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- if .Values.auth.apiKeys.existingSecret }}
- name: API_KEYS_DIR
  value: /run/secrets/api-keys
{{- end }}
{{- end }}
{{- end -}}

{{/* `env` as a pod's list, then extraEnv. */}}
{{- define "slipway.userEnv" -}}
{{- range $name, $value := .Values.env }}
- name: {{ $name | quote }}
  {{- /* toString writes 10000000 of a values file, a float there, as 1e+07 */}}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "slipway.graphVolume" -}}
{{- if .Values.graph.files -}}
{{- toYaml (dict "configMap" (dict "name" (printf "%s-graph" (include "slipway.fullname" .)))) -}}
{{- else if .Values.graph.configMap -}}
{{- toYaml (dict "configMap" (dict "name" .Values.graph.configMap)) -}}
{{- else if .Values.graph.volume -}}
{{- toYaml .Values.graph.volume -}}
{{- end -}}
{{- end -}}

{{- define "slipway.volumes" -}}
- name: tmp
  emptyDir: {}
{{- include "slipway.databaseVolume" . }}
{{- with .Values.model.existingSecret }}
- name: openai
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
    {{- with $.Values.model.key }}
    items:
      - key: {{ . | quote }}
        path: current
    {{- end }}
{{- end }}
{{- if eq .Values.auth.mode "required" }}
{{- with .Values.auth.apiKeys.existingSecret }}
- name: api-keys
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- with include "slipway.jwtFolderSecret" . }}
- name: jwt
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
{{- end }}
{{- with include "slipway.graphVolume" . }}
- name: graph
  {{- . | nindent 2 }}
{{- end }}
{{- if .Values.graph.prices }}
- name: prices
  configMap:
    name: {{ include "slipway.fullname" . }}-prices
{{- end }}
{{- if .Values.guardrails.inputRules }}
- name: input-rules
  configMap:
    name: {{ include "slipway.fullname" . }}-input-rules
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "slipway.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- include "slipway.databaseMount" . }}
{{- if .Values.model.existingSecret }}
- name: openai
  mountPath: /run/secrets/openai
  readOnly: true
{{- end }}
{{- if and (eq .Values.auth.mode "required") .Values.auth.apiKeys.existingSecret }}
- name: api-keys
  mountPath: /run/secrets/api-keys
  readOnly: true
{{- end }}
{{- if include "slipway.jwtFolderSecret" . }}
- name: jwt
  mountPath: /run/secrets/jwt
  readOnly: true
{{- end }}
{{- if include "slipway.graphVolume" . }}
- name: graph
  mountPath: {{ printf "/opt/graph/%s" .Values.graph.package | trimSuffix "/" }}
  readOnly: true
{{- end }}
{{- if .Values.graph.prices }}
- name: prices
  mountPath: /etc/slipway
  readOnly: true
{{- end }}
{{- if .Values.guardrails.inputRules }}
- name: input-rules
  mountPath: /etc/slipway-rules
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
What the pods are rolled for, beside their own specification: contents that the chart makes. A Secret of yours is not among them:
the service reads keys from files and follows them, and the rest is yours to roll. The price table is followed, too.
*/}}
{{- define "slipway.podAnnotations" -}}
{{- with .Values.graph.files }}
checksum/graph: {{ toJson . | sha256sum }}
{{- end }}
{{- with .Values.guardrails.inputRules }}
checksum/input-rules: {{ toJson . | sha256sum }}
{{- end }}
{{- with include "slipway.jwtSecret" . }}
checksum/jwt-secret: {{ sha256sum . }}
{{- end }}
{{- with .Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "slipway.topologySpread" -}}
{{- if not (kindIs "invalid" .Values.topologySpreadConstraints) }}
{{- with .Values.topologySpreadConstraints }}
{{- toYaml . }}
{{- end }}
{{- else }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- topologyKey: {{ . }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "slipway.selector" (list $ "agent") | nindent 6 }}
  # or the old pods of a rollout count too, and the new ones may all land on one node
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
{{- end -}}
