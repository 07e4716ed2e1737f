{{- define "slipway.identity.env" -}}
{{- $secret := include "slipway.identity.secret" . -}}
- {name: CANAILLE_CONFIG, value: /etc/canaille/canaille.toml}
{{ include "slipway.secretEnv" (dict "name" "SECRET_KEY" "secret" $secret "key" "secret-key") }}
{{ include "slipway.secretEnv" (dict "name" "CANAILLE_OIDC__ACTIVE_JWKS" "secret" $secret "key" "active-jwks") }}
{{ include "slipway.database.credentials" (dict "root" . "database" "identity") }}
{{- with .Values.identity.smtp.existingSecret }}
{{ include "slipway.secretEnv" (dict "name" "CANAILLE__SMTP__LOGIN" "secret" . "key" "username") }}
{{ include "slipway.secretEnv" (dict "name" "CANAILLE__SMTP__PASSWORD" "secret" . "key" "password") }}
{{- end }}
- {name: HOME, value: /tmp}
{{- include "slipway.env" .Values.identity.env }}
{{- end }}
