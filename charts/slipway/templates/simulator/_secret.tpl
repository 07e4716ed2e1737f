{{/* The Secret of the simulator's service account; empty where there is nobody who could make that account. */}}
{{- define "slipway.simulator.secret" -}}
{{- if .Values.simulator.existingSecret -}}
{{ .Values.simulator.existingSecret }}
{{- else if and .Values.identity.enabled (not .Values.identity.serviceAccountsSecret) (not .Values.gateway.oidc.issuer) -}}
{{ .Release.Name }}-simulator
{{- end -}}
{{- end }}
