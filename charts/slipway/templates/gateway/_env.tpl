{{/* A persistent spool belongs to a replica, so it needs replicas with stable names. */}}
{{- define "slipway.gateway.kind" -}}
{{ ternary "StatefulSet" "Deployment" .Values.gateway.spool.persistence.enabled }}
{{- end }}

{{/* The Deployments of the gateway, each with the planes that it serves. */}}
{{- define "slipway.gateway.deployments" -}}
{{- if .Values.gateway.planes.apart -}}
gateway: inference
gateway-control: control
{{- else -}}
gateway: inference,control
{{- end -}}
{{- end }}

{{/* The component that serves the control plane. */}}
{{- define "slipway.gateway.control" -}}
{{ ternary "gateway-control" "gateway" .Values.gateway.planes.apart }}
{{- end }}

{{- define "slipway.gateway.env" -}}
{{- $database := dict "root" . "database" "slipway" -}}
- {name: SLIPWAY_CLUSTER, value: "kubernetes://{{ .Release.Namespace }}"}
- {name: SLIPWAY_DATABASE_URL, value: {{ include "slipway.database.url" $database | quote }}}
{{ include "slipway.database.credentials" $database }}
- {name: SLIPWAY_OIDC_ISSUER, value: {{ include "slipway.oidc.issuer" . | quote }}}
- {name: SLIPWAY_OIDC_AUDIENCE, value: {{ .Values.gateway.oidc.audience | quote }}}
{{- with .Values.gateway.oidc }}
- {name: SLIPWAY_OIDC_REQUIRE_AT_JWT, value: {{ or .requireAtJwt (and $.Values.identity.enabled (not .issuer)) | quote }}}
- {name: SLIPWAY_OIDC_REFUSED_CLAIMS, value: {{ .refusedClaims | toJson | quote }}}
- {name: SLIPWAY_OIDC_ROLES_CLAIM, value: {{ .rolesClaim | quote }}}
- {name: SLIPWAY_OIDC_ROLES_PREFIX, value: {{ .rolesPrefix | quote }}}
- {name: SLIPWAY_OIDC_ROLES, value: {{ .roles | toJson | quote }}}
- {name: SLIPWAY_DOCS_CLIENT, value: {{ .docsClient | quote }}}
{{- end }}
{{- with include "slipway.oidc.discoveryUrl" . }}
- {name: SLIPWAY_OIDC_DISCOVERY_URL, value: {{ . | quote }}}
{{- end }}
{{- if and .Values.identity.enabled (not .Values.gateway.oidc.issuer) }}
- {name: SLIPWAY_SCIM_URL, value: {{ printf "%s/scim/v2" .Values.identity.url | quote }}}
- {name: SLIPWAY_SCIM_CLIENT_ID, value: slipway-gateway}
{{ include "slipway.secretEnv" (dict "name" "SLIPWAY_SCIM_CLIENT_SECRET" "secret" (include "slipway.identity.secret" .) "key" "scim-secret") }}
{{- end }}
- {name: SLIPWAY_GATEWAY_HOST, value: "0.0.0.0"}
- {name: SLIPWAY_GATEWAY_PORT, value: "8080"}
- {name: SLIPWAY_GATEWAY_METRICS_PORT, value: "9090"}
- {name: SLIPWAY_DRAIN_SECONDS, value: {{ .Values.gateway.drainSeconds | quote }}}
- {name: SLIPWAY_GRACE_SECONDS, value: {{ .Values.gateway.terminationGracePeriodSeconds | quote }}}
- {name: SLIPWAY_PREDICTIONS_PER_MINUTE, value: {{ .Values.gateway.limits.predictionsPerMinute | int64 | quote }}}
- {name: SLIPWAY_TRAINING_PER_MINUTE, value: {{ .Values.gateway.limits.trainingPerMinute | int64 | quote }}}
- {name: SLIPWAY_FEEDBACK_PER_MINUTE, value: {{ .Values.gateway.limits.feedbackPerMinute | int64 | quote }}}
- {name: SLIPWAY_JOBS_PER_CALLER, value: {{ .Values.gateway.limits.jobsPerCaller | int64 | quote }}}
- {name: SLIPWAY_STORAGE_PER_CALLER, value: {{ mul .Values.gateway.storage.perCallerMiB 1048576 | quote }}}
- {name: SLIPWAY_STORAGE_LIMIT, value: {{ mul .Values.gateway.storage.limitMiB 1048576 | quote }}}
- {name: SLIPWAY_RETENTION_BODY_DAYS, value: {{ .Values.gateway.retention.bodyDays | int64 | quote }}}
- {name: SLIPWAY_RETENTION_FACT_DAYS, value: {{ .Values.gateway.retention.factDays | int64 | quote }}}
- {name: SLIPWAY_REQUESTS_PER_MINUTE, value: {{ .Values.gateway.limits.requestsPerMinute | int64 | quote }}}
- {name: SLIPWAY_CONCURRENCY_PER_CALLER, value: {{ .Values.gateway.limits.concurrencyPerCaller | int64 | quote }}}
{{- with .Values.gateway.limits.refusedPerMinute }}
- {name: SLIPWAY_REFUSED_PER_MINUTE, value: {{ . | int64 | quote }}}
{{- end }}
{{- with .Values.gateway.trustedProxies }}
- {name: SLIPWAY_TRUSTED_PROXIES, value: {{ join "," . | quote }}}
{{- end }}
- {name: SLIPWAY_SPOOL, value: /spool}
- {name: SLIPWAY_SPOOL_LIMIT, value: {{ mul .Values.gateway.spool.limitMiB 1048576 | quote }}}
{{ include "slipway.secretEnv" (dict "name" "SLIPWAY_PREDICTOR_TOKEN" "secret" (include "slipway.predictor.secret" .) "key" "token") }}
{{- include "slipway.redis.env" . }}
{{- include "slipway.env" .Values.gateway.env }}
{{- end }}
