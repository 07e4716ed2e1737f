{{/*
Cluster-scoped objects. Fails when another release owns the object:
slipway.shared (dict "root" $ "apiVersion" "v1" "kind" "X" "name" "x" "value" "crd.install")
*/}}
{{- define "slipway.shared" -}}
{{- $owner := dig "metadata" "annotations" (dict) (lookup .apiVersion .kind "" .name) -}}
{{- $namespace := index $owner "meta.helm.sh/release-namespace" | default .root.Release.Namespace -}}
{{- if ne $namespace .root.Release.Namespace -}}
{{- fail (printf "the release in namespace %s owns %s %s: share it by %s=false" $namespace .kind .name .value) -}}
{{- end -}}
{{- end }}
