{{/*
Secrets are generated once and reused, also after an uninstall, because the volumes outlive
the release and would reject new passwords. `helm template` and GitOps tools cannot read the cluster: with them,
set every existingSecret; otherwise each rendering generates new passwords.
slipway.kept (dict "root" $ "secret" "slipway-mlflow" "key" "password" "new" (randAlphaNum 32)) returns the value, not encoded.
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
