{{/* Name of every object of a component: slipway.name (dict "root" $ "component" "gateway") */}}
{{- define "slipway.name" -}}
{{ .root.Release.Name }}-{{ .component }}
{{- end }}

{{/* Labels by which Services, Deployments and policies select the pods of a component; never change on upgrades. */}}
{{- define "slipway.selector" -}}
app.kubernetes.io/name: slipway
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "slipway.labels" -}}
{{ include "slipway.selector" . }}
app.kubernetes.io/part-of: slipway
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels of a pod: without the versions, so that a new chart alone does not restart it. */}}
{{- define "slipway.podLabels" -}}
{{ include "slipway.selector" . }}
app.kubernetes.io/part-of: slipway
{{- end }}

{{/* An image of Slipway: slipway.image (dict "root" $ "image" .Values.gateway.image) */}}
{{- define "slipway.image" -}}
{{- $tag := .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- with .root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image.repository }}:{{ $tag }}
{{- end }}

{{/* An image of another project: slipway.image.pinned .Values.redis.image */}}
{{- define "slipway.image.pinned" -}}
{{ .repository }}:{{ .tag }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "slipway.oidc.issuer" -}}
{{- if .Values.gateway.oidc.issuer -}}
{{ .Values.gateway.oidc.issuer }}
{{- else if .Values.identity.enabled -}}
{{ .Values.identity.url }}
{{- else -}}
{{ fail "set gateway.oidc.issuer: identity.enabled is false, so there is no issuer of our own" }}
{{- end -}}
{{- end }}

{{- define "slipway.mlflow.url" -}}
{{- if .Values.mlflow.enabled -}}
http://{{ .Release.Name }}-mlflow.{{ .Release.Namespace }}.svc:5000
{{- else -}}
{{ required "set mlflow.externalUrl: mlflow.enabled is false" .Values.mlflow.externalUrl }}
{{- end -}}
{{- end }}

{{/* URL at which the gateway's pods find the issuer's keys, when it is not the issuer's own URL. */}}
{{- define "slipway.oidc.discoveryUrl" -}}
{{- if .Values.gateway.oidc.discoveryUrl -}}
{{ .Values.gateway.oidc.discoveryUrl }}
{{- else if and .Values.identity.enabled (not .Values.gateway.oidc.issuer) -}}
http://{{ .Release.Name }}-identity.{{ .Release.Namespace }}.svc:8000
{{- end -}}
{{- end }}
