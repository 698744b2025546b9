{{/* Where the operator finds the Secrets of its buses: a folder for each. */}}
{{- define "clamor.secrets" -}}
/var/run/secrets/clamor
{{- end -}}

{{/* operator.yaml, as operator/src/config.rs reads it. */}}
{{- define "clamor.config" -}}
{{- $buses := dict -}}
{{- range $name, $bus := .Values.buses -}}
{{- if $bus -}}
{{- $folder := printf "%s/%s" (include "clamor.secrets" $) $name -}}
{{- $entry := dict "url" $bus.url -}}
{{- with $bus.credsKey }}{{ $_ := set $entry "credsFile" (printf "%s/nats.creds" $folder) }}{{ end -}}
{{- with $bus.user }}{{ $_ := set $entry "user" . }}{{ end -}}
{{- with $bus.passwordKey }}{{ $_ := set $entry "passwordFile" (printf "%s/password" $folder) }}{{ end -}}
{{- with $bus.caKey }}{{ $_ := set $entry "caFile" (printf "%s/ca.crt" $folder) }}{{ end -}}
{{- $_ := set $buses $name $entry -}}
{{- end -}}
{{- end -}}
{{- $image := dict "image" (include "clamor.image" .) "imagePullPolicy" .Values.image.pullPolicy "imagePullSecrets" .Values.image.pullSecrets -}}
{{- dict "clusterName" .Values.clusterName "workers" (merge $image .Values.workers) "buses" $buses "twitch" .Values.twitch | toYaml -}}
{{- end -}}

{{/* Its Secrets, one folder for each bus. One that is not there holds nothing else up: its pipelines say so. */}}
{{- define "clamor.secretSources" -}}
{{- $sources := list -}}
{{- range $name, $bus := .Values.buses -}}
{{- if $bus -}}
{{- $items := list -}}
{{- with $bus.credsKey }}{{ $items = append $items (dict "key" . "path" (printf "%s/nats.creds" $name)) }}{{ end -}}
{{- with $bus.passwordKey }}{{ $items = append $items (dict "key" . "path" (printf "%s/password" $name)) }}{{ end -}}
{{- with $bus.caKey }}{{ $items = append $items (dict "key" . "path" (printf "%s/ca.crt" $name)) }}{{ end -}}
{{- if $items -}}
{{- $sources = append $sources (dict "secret" (dict "name" $bus.secretName "optional" true "items" $items)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $sources }}{{ toYaml $sources }}{{ end -}}
{{- end -}}
