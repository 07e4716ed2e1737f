{{/*
The Job of `python -m slipway_jobs ARGS`: slipway.job (dict "root" $ "model" "churn" "args" (list "train" "churn"))
Without args, the part of a training that the author of a Model cannot choose. Its program is not the platform's: it has no
account of the database and no key that signs versions.
*/}}
{{- define "slipway.job" -}}
{{- $values := .root.Values.training -}}
{{- $names := dict "root" .root "component" "training" -}}
{{- $database := dict "root" .root "database" "slipway" -}}
{{- $command := first (.args | default (list "")) -}}
{{- $signs := has $command (list "train" "tune" "adopt" "register" "sign" "promote") -}}
{{- $image := include "slipway.image" (dict "root" .root "image" $values.image) -}}
metadata:
  labels:
    {{- include "slipway.podLabels" $names | nindent 4 }}
    {{- with .model }}
    slipway.dev/model: {{ . }}
    {{- end }}
spec:
  {{- with .workers }}
  completionMode: Indexed
  completions: {{ . }}
  parallelism: {{ . }}
  {{- end }}
  backoffLimit: {{ .retries | default 0 }}
  {{- if .retries }}
  podFailurePolicy: # a retry would repeat an invalid parameter and a refusal
    rules:
      - action: FailJob
        onExitCodes: {operator: In, values: [2, 3]}
  {{- end }}
  activeDeadlineSeconds: {{ $values.deadlineSeconds }}
  ttlSecondsAfterFinished: {{ $values.keepSeconds }}
  template:
    metadata:
      labels:
        {{- include "slipway.podLabels" $names | nindent 8 }}
        {{- with .model }}
        slipway.dev/model: {{ . }}
        {{- end }}
    spec:
      restartPolicy: Never
      serviceAccountName: {{ include "slipway.name" $names }}
      automountServiceAccountToken: false
      securityContext: {{- include "slipway.podSecurity" (dict "user" 1000) | nindent 8 }}
      {{- include "slipway.placement" (dict "root" .root "values" $values) | nindent 6 }}
      containers:
        - name: job
          image: {{ $image }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: [python, -m, slipway_jobs]
          {{- with .args }}
          args: {{- toYaml . | nindent 12 }}
          {{- end }}
          env:
            {{- include "slipway.mlflow.writer" .root | nindent 12 }}
            - {name: MLFLOW_DISABLE_TELEMETRY, value: "true"}
            {{- if .args }}
            - {name: SLIPWAY_DATABASE_URL, value: {{ include "slipway.database.url" $database | quote }}}
            {{- include "slipway.database.credentials" $database | nindent 12 }}
            {{- end }}
            {{- if eq $command "batch" }}
            {{- include "slipway.secretEnv" (dict "name" "SLIPWAY_PREDICTOR_TOKEN" "secret" (include "slipway.predictor.secret" .root) "key" "token") | nindent 12 }}
            {{- end }}
            {{- if eq $command "tune" }}
            # The name of the Job is that of the sweep: its workers, and a later Job of the same name, share it.
            - name: SLIPWAY_SWEEP
              valueFrom: {fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/job-name']"}}
            {{- end }}
            {{- if $signs }}
            - {name: SLIPWAY_SIGNING_KEY, value: /signing/private-key}
            {{- end }}
            - {name: SLIPWAY_FETCH, value: {{ $values.data.fetch | quote }}}
            {{- if $values.data.existingClaim }}
            - {name: SLIPWAY_DATA, value: /data}
            {{- end }}
            - {name: SLIPWAY_IMAGE, value: {{ $image | quote }}}
            - {name: SLIPWAY_ACTOR, value: {{ .root.Release.Name }}}
            - {name: GIT_PYTHON_REFRESH, value: quiet}
            - {name: HOME, value: /tmp}
            {{- include "slipway.env" $values.env | nindent 12 }}
          securityContext: {{- include "slipway.containerSecurity" . | nindent 12 }}
          resources: {{- include "slipway.resources" (dict "resources" $values.resources "storageMiB" $values.scratchMiB) | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- if $signs }}
            - {name: signing, mountPath: /signing, readOnly: true}
            {{- end }}
            {{- if $values.data.existingClaim }}
            - {name: data, mountPath: /data, readOnly: true}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: {{ $values.scratchMiB }}Mi}
        {{- if $signs }}
        - name: signing
          secret: {secretName: {{ include "slipway.signing.secret" .root }}, defaultMode: 0440}
        {{- end }}
        {{- with $values.data.existingClaim }}
        - name: data
          persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
        {{- end }}
{{- end }}
