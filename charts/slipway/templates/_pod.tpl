{{/* Security context of a pod for "restricted" Pod Security: slipway.podSecurity (dict "user" 1000) */}}
{{- define "slipway.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .user }}
runAsGroup: {{ .user }}
fsGroup: {{ .user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* ... and of a container. */}}
{{- define "slipway.containerSecurity" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Node placement and image pull Secrets of a pod: slipway.placement (dict "root" $ "values" .Values.gateway) */}}
{{- define "slipway.placement" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
Requests and limits with the node's disk that a pod may use: its temporary volumes, and 128 MiB for logs.
slipway.resources (dict "resources" .Values.gateway.resources "storageMiB" 768); the values take precedence.
*/}}
{{- define "slipway.resources" -}}
{{- $limit := printf "%dMi" (add .storageMiB 128) -}}
{{- $storage := dict "requests" (dict "ephemeral-storage" "64Mi") "limits" (dict "ephemeral-storage" $limit) -}}
{{- toYaml (mergeOverwrite $storage (deepCopy .resources)) -}}
{{- end }}

{{/* Environment variables without a dedicated value: slipway.env (map name to value) */}}
{{- define "slipway.env" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}

{{/* An environment variable from a Secret: slipway.secretEnv (dict "name" "PGUSER" "secret" "x" "key" "username") */}}
{{- define "slipway.secretEnv" -}}
- name: {{ .name }}
  valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
{{- end }}

{{/*
Delays a pod until its database accepts connections: otherwise the first start is a series of crashes with growing
back-offs. slipway.waitForDatabase (dict "root" $ "database" "mlflow")
*/}}
{{- define "slipway.waitForDatabase" -}}
- name: wait-for-database
  image: {{ include "slipway.image.pinned" .root.Values.postgresql.image }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [sh, -c, 'trap exit TERM; until pg_isready --quiet --timeout=5 --dbname="$DATABASE"; do sleep 1; done']
  env:
    - {name: DATABASE, value: {{ include "slipway.database.url" . | quote }}}
    # Any name is valid: there is no login, but libpq requires a name, and the pod's user has none.
    - {name: PGUSER, value: nobody}
  securityContext: {{- include "slipway.containerSecurity" . | nindent 4 }}
  resources: {requests: {cpu: 10m, memory: 16Mi, ephemeral-storage: 8Mi}, limits: {cpu: 200m, memory: 64Mi, ephemeral-storage: 64Mi}}
{{- end }}
