{{/*
A Service of a component's port `http`:
slipway.service (dict "names" $names "values" .Values.gateway.service "port" 8080)
*/}}
{{- define "slipway.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "slipway.name" .names }}
  labels: {{- include "slipway.labels" .names | nindent 4 }}
  {{- with .values.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ .values.type }}
  selector: {{- include "slipway.selector" .names | nindent 4 }}
  ports:
    - name: http
      port: {{ .port }}
      targetPort: http
      {{- if and (eq .values.type "NodePort") .values.nodePort }}
      nodePort: {{ .values.nodePort }}
      {{- end }}
{{- end }}

{{/* A separate Service, so that a public Service does not publish the metrics: slipway.metricsService $names */}}
{{- define "slipway.metricsService" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "slipway.name" . }}-metrics
  labels:
    {{- include "slipway.labels" . | nindent 4 }}
    slipway.dev/metrics: "true"
spec:
  type: ClusterIP
  selector: {{- include "slipway.selector" . | nindent 4 }}
  ports:
    - {name: metrics, port: 9090, targetPort: metrics}
{{- end }}

{{/*
slipway.ingress (dict "names" $names "values" .Values.gateway.ingress); with "paths" (dicts of path and pathType), only
these lead to the component, and all others to "others".
*/}}
{{- define "slipway.ingress" -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ include "slipway.name" .names }}
  labels: {{- include "slipway.labels" .names | nindent 4 }}
  {{- with .values.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .values.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- if .values.tlsSecret }}
  tls:
    - hosts: [{{ .values.host }}]
      secretName: {{ .values.tlsSecret }}
  {{- end }}
  rules:
    - host: {{ required (printf "set %s.ingress.host" .names.component) .values.host }}
      http:
        paths:
          {{- range .paths }}
          - path: {{ .path | quote }}
            pathType: {{ .pathType }}
            backend:
              service:
                name: {{ include "slipway.name" $.names }}
                port: {name: http}
          {{- end }}
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {{ include "slipway.name" (.others | default .names) }}
                port: {name: http}
{{- end }}
