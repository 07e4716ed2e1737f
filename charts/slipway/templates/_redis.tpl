{{/*
URL of the Redis of the response cache; empty without one. Like a database URL, it never contains a password.
*/}}
{{- define "slipway.redis.url" -}}
{{- if .Values.redis.enabled -}}
redis://{{ .Release.Name }}-redis.{{ .Release.Namespace }}.svc:6379/0
{{- else -}}
{{ .Values.redis.url }}
{{- end -}}
{{- end }}

{{/* The Secret with its password; empty for an external Redis without a password. */}}
{{- define "slipway.redis.secret" -}}
{{- if .Values.redis.existingSecret -}}
{{ .Values.redis.existingSecret }}
{{- else if .Values.redis.enabled -}}
{{ .Release.Name }}-redis
{{- end -}}
{{- end }}

{{- define "slipway.redis.env" -}}
{{- with include "slipway.redis.url" . }}
- {name: SLIPWAY_REDIS_URL, value: {{ . | quote }}}
{{- with include "slipway.redis.secret" $ }}
{{ include "slipway.secretEnv" (dict "name" "SLIPWAY_REDIS_PASSWORD" "secret" . "key" "password") }}
{{- end }}
{{- end }}
{{- end }}
