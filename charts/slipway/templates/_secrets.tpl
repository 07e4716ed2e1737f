{{/*
Secrets are made once and kept: what the cluster has is used again, also after an uninstall, because the volumes outlive
the release and would not open for new passwords. `helm template` and GitOps tools cannot look into the cluster: with them,
give every existingSecret, or each rendering makes new passwords.
slipway.kept (dict "root" $ "secret" "slipway-mlflow" "key" "password" "new" (randAlphaNum 32)) is the value, not encoded.
*/}}
{{- define "slipway.kept" -}}
{{- $found := (lookup "v1" "Secret" .root.Release.Namespace .secret).data | default dict -}}
{{- if hasKey $found .key }}{{ index $found .key | b64dec }}{{ else }}{{ .new }}{{ end -}}
{{- end }}

{{- define "slipway.mlflow.secret" -}}
{{ .Values.mlflow.existingSecret | default (printf "%s-mlflow" .Release.Name) }}
{{- end }}

{{- define "slipway.identity.secret" -}}
{{ .Values.identity.existingSecret | default (printf "%s-identity" .Release.Name) }}
{{- end }}

{{- define "slipway.signing.secret" -}}
{{ .Values.signing.existingSecret | default (printf "%s-signing" .Release.Name) }}
{{- end }}

{{/* One name for all releases: the ClusterStorageContainer, which they share, points to it in the predictor's namespace. */}}
{{- define "slipway.predictor.secret" -}}
{{ .Values.serving.existingSecret | default "slipway-predictor" }}
{{- end }}
