{{/*
The role that creates databases: that of a Secret, the superuser of the bundled PostgreSQL, or else the databases' owners.
slipway.backup.administrator $
*/}}
{{- define "slipway.backup.administrator" -}}
{{- $names := dict "root" . "component" "postgresql" -}}
{{- with .Values.backup.administratorSecret -}}
secret:
  secretName: {{ . }}
{{- else -}}
{{- if .Values.postgresql.enabled -}}
projected:
  sources:
    - secret:
        name: {{ .Values.postgresql.existingSecret | default (include "slipway.name" $names) }}
        items: [{key: password, path: password}]
    - configMap:
        name: {{ include "slipway.name" (dict "root" . "component" "backup") }}
        items: [{key: superuser, path: username}]
{{- end -}}
{{- end -}}
{{- end }}

{{/* A Job that runs one of the scripts: slipway.backup.job (dict "root" $ "script" "backup.sh" "env" (dict "KEEP" 7) "readOnly" true) */}}
{{- define "slipway.backup.job" -}}
{{- $root := .root -}}
{{- $names := dict "root" $root "component" "backup" -}}
{{- $values := $root.Values.backup -}}
{{- $onVolume := and $root.Values.mlflow.enabled (hasPrefix "file:" $root.Values.mlflow.artifacts.destination) -}}
metadata:
  labels: {{- include "slipway.podLabels" $names | nindent 4 }}
spec:
  backoffLimit: 0
  activeDeadlineSeconds: {{ $values.deadlineSeconds }}
  ttlSecondsAfterFinished: 604800
  template:
    metadata:
      labels: {{- include "slipway.podLabels" $names | nindent 8 }}
    spec:
      restartPolicy: Never
      serviceAccountName: {{ include "slipway.name" $names }}
      automountServiceAccountToken: false
      # The owner of the artifacts.
      securityContext: {{- include "slipway.podSecurity" (dict "user" 1000) | nindent 8 }}
      {{- include "slipway.placement" (dict "root" $root "values" $values) | nindent 6 }}
      {{- if $onVolume }}
      affinity:
        podAffinity:
          # A ReadWriteOnce volume can only be mounted on MLflow's node while MLflow runs.
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              podAffinityTerm:
                topologyKey: kubernetes.io/hostname
                labelSelector:
                  matchLabels: {{- include "slipway.selector" (dict "root" $root "component" "mlflow") | nindent 20 }}
      {{- end }}
      containers:
        - name: {{ trimSuffix ".sh" .script }}
          image: {{ include "slipway.image.pinned" $root.Values.postgresql.image }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: [bash, -o, pipefail, /etc/slipway/backup/{{ .script }}]
          {{- with .env }}
          env: {{- include "slipway.env" . | nindent 12 }}
          {{- end }}
          securityContext: {{- include "slipway.containerSecurity" . | nindent 12 }}
          resources: {{- include "slipway.resources" (dict "resources" $values.resources "storageMiB" 1024) | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            - {name: scripts, mountPath: /etc/slipway/backup, readOnly: true}
            - {name: roles, mountPath: /etc/slipway/roles, readOnly: true}
            {{- if .administrator }}
            - {name: administrator, mountPath: /etc/slipway/administrator, readOnly: true}
            {{- end }}
            - {name: backup, mountPath: /backup}
            {{- if $onVolume }}
            - {name: artifacts, mountPath: /mlflow, readOnly: {{ .readOnly }}}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 1Gi}
        - name: scripts
          configMap: {name: {{ include "slipway.name" $names }}}
        - name: roles
          {{- include "slipway.database.roles" $root | nindent 10 }}
        {{- with .administrator }}
        - name: administrator
          {{- . | nindent 10 }}
        {{- end }}
        - name: backup
          persistentVolumeClaim: {claimName: {{ required "set backup.claim: a PersistentVolumeClaim for the backups" $values.claim }}}
        {{- if $onVolume }}
        - name: artifacts
          persistentVolumeClaim: {claimName: {{ include "slipway.mlflow.claim" $root }}}
        {{- end }}
{{- end }}
