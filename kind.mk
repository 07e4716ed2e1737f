# Slipway on a kind cluster of this machine. Included by the Makefile.

# Sources of the installed charts and images; each can be another address or a packed chart, for machines without these hosts.
export KIND_NODE_IMAGE      ?= kindest/node:v1.34.3@sha256:08497ee19eace7b4b5348db5c6a1591d7752b164530a36f855cb0f2bdcbadd48
export CERT_MANAGER_CHART   ?= https://charts.jetstack.io/charts/cert-manager-v1.11.5.tgz
export KSERVE_CRD_CHART     ?= oci://ghcr.io/kserve/charts/kserve-crd
export KSERVE_CHART         ?= oci://ghcr.io/kserve/charts/kserve-resources
export KSERVE_VERSION       ?= v0.20.0
export METRICS_SERVER_CHART ?= https://github.com/kubernetes-sigs/metrics-server/releases/download/metrics-server-helm-chart-3.13.1/metrics-server-3.13.1.tgz

.PHONY: images
images: ## build the six container images, and Valkey for the kind cluster
	@manifests/build-images

.PHONY: kind
kind: ## install on a kind cluster: dependencies, images, chart, sample models, one prediction
	@manifests/bring-up

.PHONY: token
token: ## write new access tokens (user, scientist) for the kind cluster to .slipway/env; they are valid for 15 minutes
	@manifests/bring-up token

.PHONY: kind-down
kind-down: ## delete the kind cluster with everything in it
	@kind delete cluster --name slipway

.PHONY: dev
dev: install ## build, install and follow changes of the sources on the kind cluster (make kind comes first)
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" DEV_SESSION="$$(date +%s)" \
	  skaffold dev --kube-context kind-slipway --profile dev --cleanup=false
