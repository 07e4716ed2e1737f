{{/*
Databases: slipway (event log), mlflow, identity. A URL here never contains a user or a password: those come from a Secret
through PGUSER and PGPASSWORD, which libpq reads. So no password needs percent-encoding, and no object contains one.
All take (dict "root" $ "database" "mlflow").
*/}}
{{- define "slipway.database.url" -}}
{{- $own := index .root.Values.databases .database -}}
{{- if .root.Values.postgresql.enabled -}}
postgresql://{{ .root.Release.Name }}-postgresql.{{ .root.Release.Namespace }}.svc:5432/{{ .database }}
{{- else -}}
{{ required (printf "set databases.%s.url: postgresql.enabled is false" .database) $own.url }}
{{- end -}}
{{- end }}

{{/* The URL for SQLAlchemy, with the driver of the image: (dict ... "driver" "psycopg") */}}
{{- define "slipway.database.sqlalchemyUrl" -}}
postgresql+{{ .driver }}{{ include "slipway.database.url" . | trimPrefix "postgresql" }}
{{- end }}

{{- define "slipway.database.secret" -}}
{{- $own := index .root.Values.databases .database -}}
{{- if $own.existingSecret -}}
{{ $own.existingSecret }}
{{- else if .root.Values.postgresql.enabled -}}
{{ .root.Release.Name }}-database-{{ .database }}
{{- else -}}
{{ fail (printf "set databases.%s.existingSecret (keys username, password): postgresql.enabled is false" .database) }}
{{- end -}}
{{- end }}

{{- define "slipway.database.credentials" -}}
{{- $secret := include "slipway.database.secret" . -}}
{{ include "slipway.secretEnv" (dict "name" "PGUSER" "secret" $secret "key" "username") }}
{{ include "slipway.secretEnv" (dict "name" "PGPASSWORD" "secret" $secret "key" "password") }}
{{- end }}

{{/* A volume with a folder for each database: username, password. */}}
{{- define "slipway.database.roles" -}}
{{- $root := . -}}
projected:
  sources:
    {{- range $database, $own := .Values.databases }}
    - secret:
        name: {{ include "slipway.database.secret" (dict "root" $root "database" $database) }}
        items:
          - {key: username, path: {{ $database }}/username}
          - {key: password, path: {{ $database }}/password}
    {{- end }}
{{- end }}
