{{/*
Generated secrets. Each is made once, when it is not in the cluster, and kept by `lookup` from then on.

Where there is no cluster to look into (`helm template`, Argo CD) they are left out of the render: a random value would
differ at each sync, and a new database password would not even open the database. docs/operations/chart.md says what to do there.
*/}}

{{/*
"true" where the cluster answers. A list of the release's own namespace, which Helm itself needs to read; without a cluster it is an
empty map, with one it is a SecretList, be it empty.
*/}}
{{- define "slipway.clusterAnswers" -}}
{{- if lookup "v1" "Secret" .Release.Namespace "" -}}true{{- end -}}
{{- end -}}

{{/*
A key's base64 from the cluster, else a new one; nothing without a cluster. Takes (list root secret key).
Kept in .Values for the time of one render, so that the Secret and the annotation that rolls the pods see the same random value.
*/}}
{{- define "slipway.generated" -}}
{{- $root := index . 0 -}}{{- $name := index . 1 -}}{{- $key := index . 2 -}}
{{- $made := $root.Values.generatedSecrets | default dict -}}
{{- $id := printf "%s/%s" $name $key -}}
{{- if not (hasKey $made $id) -}}
{{- $found := lookup "v1" "Secret" $root.Release.Namespace $name -}}
{{- $value := "" -}}
{{- if hasKey ($found.data | default dict) $key -}}
{{- $value = index $found.data $key -}}
{{- else if include "slipway.clusterAnswers" $root -}}
{{- $value = randAlphaNum 48 | b64enc -}}
{{- end -}}
{{- $_ := set $made $id $value -}}
{{- $_ := set $root.Values "generatedSecrets" $made -}}
{{- end -}}
{{- index $made $id -}}
{{- end -}}

{{/*
The generated secret's value for as long as a pod may ask for it: after a change to another kind of authentication, pods of before it
start and restart until the rollout has ended, and a rollback brings them back. It goes with the release.
*/}}
{{- define "slipway.keptJwtSecret" -}}
{{- if include "slipway.generatesJwtSecret" . -}}
{{- include "slipway.jwtSecret" . -}}
{{- else -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace (printf "%s-auth" (include "slipway.fullname" .)) -}}
{{- if eq (dig "metadata" "annotations" "meta.helm.sh/release-name" "" $found) .Release.Name -}}
{{- dig "data" "jwt-secret" "" $found -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Secret whose key is read at start. */}}
{{- define "slipway.jwtSecretName" -}}
{{- if .Values.auth.jwt.existingSecret -}}
{{- if .Values.auth.jwt.key -}}{{- .Values.auth.jwt.existingSecret -}}{{- end -}}
{{- else if include "slipway.generatesJwtSecret" . -}}
{{- printf "%s-auth" (include "slipway.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* The Secret that is mounted as a folder, with `current` and `previous`. */}}
{{- define "slipway.jwtFolderSecret" -}}
{{- if and (eq .Values.auth.mode "required") (not .Values.auth.jwt.key) -}}
{{- .Values.auth.jwt.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* "true" when nothing in the values says who may call. */}}
{{- define "slipway.generatesJwtSecret" -}}
{{- $auth := .Values.auth -}}
{{- if and (eq $auth.mode "required") (not (or $auth.jwt.existingSecret $auth.jwt.jwksUrl $auth.oidc.issuer $auth.apiKeys.existingSecret)) -}}true{{- end -}}
{{- end -}}

{{- define "slipway.jwtSecret" -}}
{{- if include "slipway.generatesJwtSecret" . -}}
{{- include "slipway.generated" (list . (include "slipway.jwtSecretName" .) "jwt-secret") -}}
{{- end -}}
{{- end -}}
