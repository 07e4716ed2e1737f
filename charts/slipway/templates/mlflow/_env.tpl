{{/* Variables of writers: the Jobs. */}}
{{- define "slipway.mlflow.writer" -}}
- {name: MLFLOW_TRACKING_URI, value: {{ include "slipway.mlflow.url" . | quote }}}
{{ include "slipway.secretEnv" (dict "name" "MLFLOW_TRACKING_USERNAME" "secret" (include "slipway.mlflow.secret" .) "key" "username") }}
{{ include "slipway.secretEnv" (dict "name" "MLFLOW_TRACKING_PASSWORD" "secret" (include "slipway.mlflow.secret" .) "key" "password") }}
{{- end }}

{{/* Variables of readers: the controller and the predictors' storage initializer, from the Secret that they share. */}}
{{- define "slipway.mlflow.reader" -}}
{{- $secret := include "slipway.predictor.secret" . -}}
{{ include "slipway.secretEnv" (dict "name" "MLFLOW_TRACKING_URI" "secret" $secret "key" "mlflow-tracking-uri") }}
{{ include "slipway.secretEnv" (dict "name" "MLFLOW_TRACKING_USERNAME" "secret" $secret "key" "mlflow-username") }}
{{ include "slipway.secretEnv" (dict "name" "MLFLOW_TRACKING_PASSWORD" "secret" $secret "key" "mlflow-password") }}
{{- end }}

{{/* Host headers that MLflow accepts; it rejects others, against DNS rebinding. */}}
{{- define "slipway.mlflow.hosts" -}}
{{- $name := include "slipway.name" (dict "root" . "component" "mlflow") -}}
{{- $hosts := list "localhost:*" "127.0.0.1:*" -}}
{{- range list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.cluster.local" $name .Release.Namespace) -}}
{{- $hosts = append $hosts (printf "%s:5000" .) -}}
{{- end -}}
{{ concat $hosts .Values.mlflow.allowedHosts | join "," }}
{{- end }}

{{- define "slipway.mlflow.env" -}}
{{- $database := dict "root" . "database" "mlflow" -}}
- {name: MLFLOW_BACKEND_STORE_URI, value: {{ include "slipway.database.sqlalchemyUrl" (merge (dict "driver" "psycopg") $database) | quote }}}
{{ include "slipway.database.credentials" $database }}
- {name: MLFLOW_DISABLE_TELEMETRY, value: "true"}
- {name: GIT_PYTHON_REFRESH, value: quiet}
- {name: HOME, value: /tmp}
{{- end }}

{{- define "slipway.mlflow.claim" -}}
{{ .Values.mlflow.artifacts.persistence.existingClaim | default (printf "%s-mlflow" .Release.Name) }}
{{- end }}
