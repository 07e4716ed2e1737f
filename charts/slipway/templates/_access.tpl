{{/* Service account of a component that uses the API server. */}}
{{- define "slipway.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "slipway.name" . }}
  labels: {{- include "slipway.labels" . | nindent 4 }}
{{- end }}

{{/* Service account of another component: no token is mounted. */}}
{{- define "slipway.plainServiceAccount" -}}
{{ include "slipway.serviceAccount" . }}
automountServiceAccountToken: false
{{- end }}

{{- define "slipway.roleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ include "slipway.name" . }}
  labels: {{- include "slipway.labels" . | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ include "slipway.name" . }}}
subjects:
  - {kind: ServiceAccount, name: {{ include "slipway.name" . }}, namespace: {{ .root.Release.Namespace }}}
{{- end }}
