{{/* The Secret of the simulator's service account; empty where the provider cannot create the account. */}}
{{- define "slipway.simulator.secret" -}}
{{- if .Values.simulator.existingSecret -}}
{{ .Values.simulator.existingSecret }}
{{- else if and .Values.identity.enabled (not .Values.identity.serviceAccountsSecret) (not .Values.gateway.oidc.issuer) -}}
{{ .Release.Name }}-simulator
{{- end -}}
{{- end }}
