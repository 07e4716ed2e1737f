{{/* Pod selector of a component; KServe creates the predictors. */}}
{{- define "slipway.network.pods" -}}
{{- if eq .component "predictor" -}}
matchExpressions: [{key: serving.kserve.io/inferenceservice, operator: Exists}]
{{- else if and (eq .component "gateway") .root.Values.gateway.planes.apart -}}
matchLabels: {app.kubernetes.io/name: slipway, app.kubernetes.io/instance: {{ .root.Release.Name }}}
matchExpressions: [{key: app.kubernetes.io/component, operator: In, values: [gateway, gateway-control]}]
{{- else -}}
matchLabels: {{- include "slipway.selector" . | nindent 2 }}
{{- end -}}
{{- end }}

{{/* Connections inside the namespace. */}}
{{- define "slipway.network.edges" -}}
- {from: gateway, to: predictor, port: 8080}
- {from: worker, to: predictor, port: 8080}
- {from: training, to: predictor, port: 8080}
- {from: controller, to: predictor, port: 8080}
- {from: test, to: gateway, port: 8080}
{{- if include "slipway.simulator.secret" . }}
- {from: simulator, to: gateway, port: 8080}
{{- if .Values.identity.enabled }}
- {from: simulator, to: identity, port: 8000}
{{- end }}
{{- end }}
{{- if .Values.identity.enabled }}
- {from: gateway, to: identity, port: 8000}
- {from: test, to: identity, port: 8000}
{{- end }}
{{- if .Values.mlflow.enabled }}
- {from: controller, to: mlflow, port: 5000}
- {from: predictor, to: mlflow, port: 5000}
- {from: training, to: mlflow, port: 5000}
- {from: accounts, to: mlflow, port: 5000}
- {from: test, to: mlflow, port: 5000}
{{- end }}
{{- if .Values.redis.enabled }}
- {from: gateway, to: redis, port: 6379}
- {from: worker, to: redis, port: 6379}
{{- end }}
{{- if .Values.postgresql.enabled }}
- {from: gateway, to: postgresql, port: 5432}
- {from: worker, to: postgresql, port: 5432}
- {from: training, to: postgresql, port: 5432}
{{- if .Values.mlflow.enabled }}
- {from: mlflow, to: postgresql, port: 5432}
{{- end }}
{{- if .Values.identity.enabled }}
- {from: identity, to: postgresql, port: 5432}
{{- end }}
{{- if .Values.backup.enabled }}
- {from: backup, to: postgresql, port: 5432}
{{- end }}
{{- end }}
{{- end }}

{{/* Components that are open to callers from outside the namespace, with their ports. */}}
{{- define "slipway.network.entrypoints" -}}
gateway: 8080
{{- range $component, $port := dict "identity" 8000 "mlflow" 5000 }}
{{- $own := index $.Values $component }}
{{- if and $own.enabled (or $own.ingress.enabled (ne $own.service.type "ClusterIP")) }}
{{ $component }}: {{ $port }}
{{- end }}
{{- end }}
{{- end }}
