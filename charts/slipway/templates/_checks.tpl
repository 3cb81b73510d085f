{{/* A section that a values file names and leaves empty is null to Helm, which then takes away the defaults in it; and
`helm upgrade --reuse-values` has none of the defaults that are newer than the release. */}}
{{- define "slipway.checkMissing" -}}
{{- $values := .Values -}}
{{- range .Files.Lines "files/required-values.txt" -}}
{{- $place := $values -}}
{{- range splitList "." . -}}
{{- $place = index $place . -}}
{{- end -}}
{{- if kindIs "invalid" $place -}}
{{- fail (printf "%s: it is missing; remove an empty line or a null that takes its default away, and upgrade with --reset-then-reuse-values instead of --reuse-values" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Values that there were. What is empty says nothing, as in the defaults of an older release. */}}
{{- define "slipway.checkRenamed" -}}
{{- with .Values.postgres.port -}}
{{- fail (printf "postgres.port: it is called networkPolicy.postgresPort now, as nothing else reads it; set that to %v" .) -}}
{{- end -}}
{{- with .Values.auth.jwt.rotatingSecret -}}
{{- fail (printf "auth.jwt.rotatingSecret: set auth.jwt.existingSecret=%s and auth.jwt.key to an empty text instead, which mounts the folder" .) -}}
{{- end -}}
{{- end -}}

{{- define "slipway.checkAlerts" -}}
{{- with .Values.monitoring.alerts -}}
{{- if and .enabled (not (kindIs "invalid" .thresholds.turnSeconds)) (gt (float64 .thresholds.turnSeconds) (float64 $.Values.streaming.maxTurnSeconds)) -}}
{{- fail (printf "monitoring.alerts.thresholds.turnSeconds: no turn takes %v s with streaming.maxTurnSeconds=%v, so the alert could never fire; leave it null, or lower it" .thresholds.turnSeconds $.Values.streaming.maxTurnSeconds) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slipway.checkImage" -}}
{{- range $name, $image := dict "image" .Values.image "postgres.image" .Values.postgres.image -}}
{{- if has (kindOf $image.tag) (list "int" "int64" "float64") -}}
{{- fail (printf "%s.tag: %s is a number, in which 1.10 is 1.1; write it in quotes, or --set-string %s.tag=…" $name (toJson $image.tag) $name) -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.image.tag "latest") (not .Values.image.digest) -}}
{{- fail "image.tag: `latest` makes pods of one release differ; set a version, or image.digest" -}}
{{- end -}}
{{- end -}}

{{- define "slipway.checkLabels" -}}
{{- if not .Values.enabled -}}
{{- fail "enabled: it is for the `condition` of a parent chart, which then leaves this one out; to remove a release of its own, use helm uninstall" -}}
{{- end -}}
{{- $own := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" -}}
{{- range $where, $labels := dict "podLabels" .Values.podLabels "commonLabels" .Values.commonLabels "helmTest.podLabels" .Values.helmTest.podLabels "service.labels" .Values.service.labels "ingress.labels" .Values.ingress.labels "httpRoute.labels" .Values.httpRoute.labels -}}
{{- range $name, $_ := $labels -}}
{{- if has $name $own -}}
{{- fail (printf "%s: %s is the chart's own, by which Services and policies find pods; use another name" $where $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slipway.checkPostgres" -}}
{{- with .Values.postgres -}}
{{- if and (eq .mode "external") (not .existingSecret) -}}
{{- fail "postgres.existingSecret: postgres.mode=external needs the Secret with the address of your PostgreSQL" -}}
{{- end -}}
{{- if and (eq .mode "evaluation") .existingSecret -}}
{{- fail "postgres.mode: `evaluation` brings a database of its own, and postgres.existingSecret names yours; keep one of them" -}}
{{- end -}}
{{- if and .caSecret (not .existingSecret) -}}
{{- fail "postgres.caSecret: the evaluation database has no certificate; name your PostgreSQL by postgres.existingSecret, or remove it" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slipway.checkTimes" -}}
{{- $needed := include "slipway.graceNeeded" . | int -}}
{{- with .Values.terminationGracePeriodSeconds -}}
{{- if lt (int .) $needed -}}
{{- fail (printf "terminationGracePeriodSeconds: %d would kill turns: streaming.maxTurnSeconds=%d needs %d; leave it null, or lower streaming.maxTurnSeconds" (int .) (int $.Values.streaming.maxTurnSeconds) $needed) -}}
{{- end -}}
{{- end -}}
{{- if not (kindIs "invalid" .Values.autoscaling.scaleDownWindowSeconds) -}}
{{- $window := int .Values.autoscaling.scaleDownWindowSeconds -}}
{{- $turn := min 3600 (int .Values.streaming.maxTurnSeconds) -}}
{{- if lt $window $turn -}}
{{- fail (printf "autoscaling.scaleDownWindowSeconds: %d is shorter than a turn (%d): pods would go while their turns run; leave it null, or lower streaming.maxTurnSeconds" $window $turn) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slipway.checkModel" -}}
{{- with .Values.model -}}
{{- if and (ne .name "offline") .needsKey (not .existingSecret) -}}
{{- fail (printf "model.existingSecret: %s needs the key of its endpoint; make a Secret with the file `current` and name it here, or set model.needsKey=false if the endpoint wants no key" .name) -}}
{{- end -}}
{{- if and (not .needsKey) .existingSecret -}}
{{- fail "model.needsKey: false means that the endpoint wants no key, and model.existingSecret names one; keep one of them" -}}
{{- end -}}
{{- if and (eq .name "offline") .existingSecret -}}
{{- fail "model.name: `offline` is built in and uses no key; name the model to call, or remove model.existingSecret" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slipway.checkKeyRotation" -}}
{{- with .Values.operator.keyRotation -}}
{{- if and .enabled (not $.Values.model.existingSecret) -}}
{{- fail "operator.keyRotation.enabled: model.existingSecret must name the Secret that the operator keeps the key in" -}}
{{- end -}}
{{- if and .enabled (not .provider) -}}
{{- fail "operator.keyRotation.provider: say who issues the keys, openAI or pool (docs/operations/key-rotation.md)" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slipway.checkAuth" -}}
{{- if and (eq .Values.auth.mode "disabled") (not .Values.auth.disabledOnAnyAddress) -}}
{{- fail "auth.mode: `disabled` makes everyone who reaches the Service one caller with the role `platform`; if that is meant, set auth.disabledOnAnyAddress=true too" -}}
{{- end -}}
{{- if and (not .Values.auth.jwt.key) (not .Values.auth.jwt.existingSecret) -}}
{{- fail "auth.jwt.key: empty means the folder of a Secret of yours; name it in auth.jwt.existingSecret, or leave the key as it is" -}}
{{- end -}}
{{- with .Values.auth.oidc -}}
{{- if and .issuer (eq $.Values.auth.mode "disabled") -}}
{{- fail "auth.oidc.issuer: nobody signs in with auth.mode=disabled; set auth.mode=required" -}}
{{- end -}}
{{- if and .issuer (not .clientId) -}}
{{- fail "auth.oidc.clientId: set the client id of this service at auth.oidc.issuer" -}}
{{- end -}}
{{- if and (not .issuer) (or .clientId .existingSecret) -}}
{{- fail "auth.oidc.issuer: auth.oidc.clientId and auth.oidc.existingSecret are of no use without it" -}}
{{- end -}}
{{- if and .issuer (not (hasPrefix "https://" (include "slipway.publicUrl" $))) -}}
{{- fail "protocols.publicUrl: auth.oidc.issuer sends people back to an https:// URL of this service; set it, or an Ingress with host and tlsSecret" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slipway.checkGraph" -}}
{{- with .Values.graph -}}
{{- $sources := compact (list (ternary "graph.files" "" (not (empty .files))) (ternary "graph.configMap" "" (not (empty .configMap))) (ternary "graph.volume" "" (not (empty .volume)))) -}}
{{- if gt (len $sources) 1 -}}
{{- fail (printf "%s: the graph can come from one of them only" (join " and " $sources)) -}}
{{- end -}}
{{- if and $sources (not .module) (not .langgraphJson) -}}
{{- fail (printf "graph.module: %s is mounted, but nothing says which graph to serve; set package.module:attribute, or graph.langgraphJson" (first $sources)) -}}
{{- end -}}
{{- if and .module (not (contains ":" .module)) (not .langgraphJson) -}}
{{- fail (printf "graph.module: %s is no package.module:attribute; as the name of a graph it needs graph.langgraphJson" .module) -}}
{{- end -}}
{{- if and .package (not $sources) -}}
{{- fail "graph.package: there are no files for it; set graph.files, graph.configMap or graph.volume" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A second entry of one name would win over the chart's, silently. */}}
{{- define "slipway.checkEnv" -}}
{{- $by := dict
  "PORT" "it stays 8000, which Services and policies use" "OPS_PORT" "it stays 9090, which probes and monitoring use"
  "HOST" "the image listens on all addresses; of IPv6, by service.ipFamilies" "OPS_HOST" "the image listens on all addresses; of IPv6, by service.ipFamilies"
  "DATABASE_URL" "set postgres.existingSecret" "DATABASE_URL_FILE" "set postgres.existingSecret"
  "MAX_TURN_SECONDS" "set streaming.maxTurnSeconds" "DRAIN_SECONDS" "set streaming.maxTurnSeconds"
  "DRAIN_MIN_SECONDS" "set streaming.drainMinSeconds" "MAX_CONCURRENT_RUNS" "set streaming.maxConcurrentRuns"
  "MODEL" "set model.name" "CHEAP_MODEL" "set model.cheapName" "FALLBACK_MODEL" "set model.fallbackName"
  "OPENAI_BASE_URL" "set model.baseUrl" "OPENAI_KEY_DIR" "set model.existingSecret" "OPENAI_API_KEY" "set model.existingSecret"
  "ACCEPT_IMAGES" "set model.acceptImages" "ALLOWED_HOSTS" "set auth.allowedHosts" "AUTH" "set auth.mode" "AUTH_DISABLED_ON_ANY_ADDRESS" "set auth.disabledOnAnyAddress" "JWT_SECRET" "set auth.jwt.existingSecret" "JWT_SECRET_DIR" "set auth.jwt.existingSecret, and auth.jwt.key empty"
  "JWT_JWKS_URL" "set auth.jwt.jwksUrl" "JWT_ISSUER" "set auth.jwt.issuer" "JWT_AUDIENCE" "set auth.jwt.audience"
  "OIDC_ISSUER" "set auth.oidc.issuer" "OIDC_CLIENT_ID" "set auth.oidc.clientId" "OIDC_CLIENT_SECRET" "set auth.oidc.existingSecret" "OIDC_SCOPES" "set auth.oidc.scopes"
  "API_KEYS_DIR" "set auth.apiKeys.existingSecret"
  "RATE_LIMIT_PER_MINUTE" "set limits.ratePerMinute" "MAX_RUNS_PER_PRINCIPAL" "set limits.runsPerCaller" "REDIS_URL" "set limits.redis.existingSecret"
  "MCP" "set protocols.mcp" "A2A" "set protocols.a2a" "AGENT_DESCRIPTION" "set protocols.description"
  "PUBLIC_URL" "set protocols.publicUrl" "PUBLIC_AGENT_CARD" "set protocols.publicAgentCard"
  "RESPONSE_CACHE_SECONDS" "set responseCache.seconds" "RESPONSE_CACHE_SCOPE" "set responseCache.scope" "RESPONSE_CACHE_GRAPHS" "set responseCache.graphs"
  "FILE_GRAPHS" "set files.graphs" "CRON_OWNER_DAYS" "set crons.ownerDays"
  "MAX_RUN_TOKENS" "set budgets.run.tokens" "MAX_RUN_USD" "set budgets.run.usd"
  "DAILY_TOKEN_LIMIT" "set budgets.userPerDay.tokens" "DAILY_USD_LIMIT" "set budgets.userPerDay.usd"
  "MONTHLY_TENANT_TOKEN_LIMIT" "set budgets.tenantPerMonth.tokens" "MONTHLY_TENANT_USD_LIMIT" "set budgets.tenantPerMonth.usd"
  "AGENT_GRAPH" "set graph.module" "LANGGRAPH_CONFIG" "set graph.langgraphJson" "GRAPH_VERSION" "set graph.version" "AGENT_GRAPH_DIR" "set graph.files, graph.configMap or graph.volume" "PRICE_FILE" "set graph.prices" -}}
{{- $env := .Values.env | default dict -}}
{{- range $name, $value := $env -}}
{{- /* it has all numbers as floats of 53 bits */ -}}
{{- if and (kindIs "float64" $value) (or (ge $value 9007199254740992.0) (le $value -9007199254740992.0)) -}}
{{- fail (printf "env: %s is a number that Helm cannot hold; put it in quotes" $name) -}}
{{- end -}}
{{- end -}}
{{- $names := keys $env | sortAlpha -}}
{{- range .Values.extraEnv -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- range $names -}}
{{- /* the service takes either case */ -}}
{{- if hasKey $by (upper .) -}}
{{- fail (printf "env and extraEnv: %s belongs to the chart; %s" . (get $by (upper .))) -}}
{{- end -}}
{{- end -}}
{{- if ne (len $names) (len (uniq $names)) -}}
{{- fail "env and extraEnv: a name stands there twice, and only the last would count" -}}
{{- end -}}
{{- end -}}

{{- define "slipway.checkReplicas" -}}
{{- $scaling := .Values.autoscaling -}}
{{- /* whoever scales instead of the chart may go down to autoscaling.minReplicas */ -}}
{{- $least := ternary $scaling.minReplicas .Values.replicaCount (or $scaling.enabled (kindIs "invalid" .Values.replicaCount)) | int -}}
{{- if $scaling.enabled -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas: %d is above autoscaling.maxReplicas=%d" (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if and (ne $scaling.mode "cpu") (gt (int $scaling.targetConcurrency) (int .Values.streaming.maxConcurrentRuns)) -}}
{{- fail (printf "autoscaling.targetConcurrency: a pod executes at most streaming.maxConcurrentRuns=%d, so %d is reached by queueing only; begin with half of it" (int .Values.streaming.maxConcurrentRuns) (int $scaling.targetConcurrency)) -}}
{{- end -}}
{{- if and (eq $scaling.mode "keda") (not $scaling.keda.serverAddress) -}}
{{- fail "autoscaling.keda.serverAddress: KEDA asks Prometheus; set its address, such as http://prometheus-operated.monitoring:9090" -}}
{{- end -}}
{{- if and (eq $scaling.mode "cpu") (not (((.Values.resources | default dict).requests | default dict).cpu)) -}}
{{- fail "resources.requests.cpu: autoscaling.mode=cpu is a percentage of it; set it" -}}
{{- end -}}
{{- end -}}
{{- include "slipway.checkPdb" (list .Values.pdb $least) -}}
{{- end -}}

{{/* A budget that allows no eviction holds up every node drain. Takes (list pdb least-replicas). */}}
{{- define "slipway.checkPdb" -}}
{{- $pdb := first . -}}{{- $least := last . -}}
{{- $hasMax := not (kindIs "invalid" $pdb.maxUnavailable) -}}{{- $hasMin := not (kindIs "invalid" $pdb.minAvailable) -}}
{{- if not (or $hasMax $hasMin) -}}
{{- fail "pdb: set maxUnavailable or minAvailable" -}}
{{- end -}}
{{- if and $hasMax (not $hasMin) (has (toString $pdb.maxUnavailable) (list "0" "0%")) -}}
{{- fail "pdb.maxUnavailable: 0 would let no node be drained; set at least 1" -}}
{{- end -}}
{{- if $hasMin -}}
{{- $text := toString $pdb.minAvailable -}}
{{- $kept := ternary (ceil (divf (mulf (trimSuffix "%" $text | float64) $least) 100)) (float64 $text) (hasSuffix "%" $text) | int -}}
{{- if ge $kept (max 1 $least) -}}
{{- fail (printf "pdb.minAvailable: %s of at least %d pods would let no node be drained; use maxUnavailable: 1" $text $least) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slipway.checkRoutes" -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs: name the Gateway to attach to: [{name: …, namespace: …}]" -}}
{{- end -}}
{{- if and .Values.ingress.enabled .Values.ingress.tlsSecret (not .Values.ingress.host) (not .Values.ingress.hosts) -}}
{{- fail "ingress.host: ingress.tlsSecret is a certificate for a host; name it" -}}
{{- end -}}
{{- if and .Values.ingress.tls .Values.ingress.tlsSecret -}}
{{- fail "ingress.tls: ingress.tlsSecret is one certificate for all hosts; keep one of them" -}}
{{- end -}}
{{- $hosts := concat (list .Values.ingress.host) (.Values.ingress.hosts | default list) -}}
{{- range .Values.ingress.tls -}}
{{- range .hosts -}}
{{- if not (has . $hosts) -}}
{{- fail (printf "ingress.tls: there is a certificate for %s, which is none of ingress.host and ingress.hosts; name it there" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slipway.checkCRDs" -}}
{{- $monitoring := .Values.monitoring -}}
{{- $scaling := .Values.autoscaling -}}
{{- if .Values.checkCRDs -}}
{{- range list
  (list $monitoring.serviceMonitor.enabled "monitoring.coreos.com/v1/ServiceMonitor" "monitoring.serviceMonitor.enabled" "the Prometheus operator")
  (list $monitoring.alerts.enabled "monitoring.coreos.com/v1/PrometheusRule" "monitoring.alerts.enabled" "the Prometheus operator")
  (list (and $scaling.enabled (eq $scaling.mode "keda")) "keda.sh/v1alpha1/ScaledObject" "autoscaling.mode=keda" "KEDA")
  (list .Values.operator.keyRotation.enabled "slipway.dev/v1alpha1/KeyRotation" "operator.keyRotation.enabled" "the chart slipway-operator")
  (list .Values.operator.agentHealth.enabled "slipway.dev/v1alpha1/AgentHealth" "operator.agentHealth.enabled" "the chart slipway-operator")
  (list .Values.operator.alertPolicy.enabled "slipway.dev/v1alpha1/AlertPolicy" "operator.alertPolicy.enabled" "the chart slipway-operator")
  (list .Values.httpRoute.enabled "gateway.networking.k8s.io/v1/HTTPRoute" "httpRoute.enabled" "the Gateway API")
-}}
{{- if and (index . 0) (not ($.Capabilities.APIVersions.Has (index . 1))) -}}
{{- fail (printf "%s: the cluster has no %s; install %s first, or turn it off (where Helm cannot ask the cluster: --api-versions %s, or checkCRDs=false)" (index . 2) (index . 1) (index . 3) (index . 1)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
