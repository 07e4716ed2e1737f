# The Helm chart: included by the Makefile.
CHART := charts/slipway
SCHEMAS := .slipway/schemas
PARAMETERS := examples/parameters.json

.PHONY: chart-docs
chart-docs: $(VENV)/.installed ## generate the chart's CRD, values.schema.json and README, and the values with the parameters of the examples
	$(VENV)/bin/python -c 'import yaml; from slipway_contract.crd import crd; print(yaml.safe_dump(crd(), sort_keys=False), end="")' > $(CHART)/files/models.crd.yaml
	$(VENV)/bin/python -c 'import json; from slipway.training.installed import declared_task, task_names; from slipway.training.task import parameters_schema; print(json.dumps({"training": {"parameters": {name: parameters_schema(declared_task(name)) for name in task_names()}}}, indent=1))' > $(PARAMETERS)
	$(VENV)/bin/python charts/values.py $(CHART)

.PHONY: local-objects
local-objects: install ## render the chart into the objects of the local stack
	helm template slipway $(CHART) --namespace slipway --values local/slipway_local/objects/values.yaml --values $(PARAMETERS) | $(VENV)/bin/python charts/local_objects.py > local/slipway_local/objects/chart.json.new
	mv local/slipway_local/objects/chart.json.new local/slipway_local/objects/chart.json

# A missing program is an error in CI (manifests/tools), and a message elsewhere.
.PHONY: chart-lint
chart-lint: install ## helm lint and kubeconform for every set of values in charts/slipway/ci, where they are installed
	$(VENV)/bin/mypy charts/values.py charts/schemas.py charts/local_objects.py manifests/dev/render.py $(CHART)/files/accounts.py $(CHART)/files/platform_test.py
	$(VENV)/bin/python charts/values.py --check $(CHART)
	@if ! command -v helm >/dev/null; then echo "· helm is not installed: skipped"; exit 0; fi; \
	rm -rf $(SCHEMAS) && $(VENV)/bin/python charts/schemas.py $(SCHEMAS); \
	for values in $(CHART)/ci/*.yaml $(wildcard manifests/kind-values.yaml); do \
	  echo "· $$values"; \
	  helm lint --quiet --strict $(CHART) --namespace slipway --values $$values; \
	  if command -v kubeconform >/dev/null; then \
	    helm template slipway $(CHART) --namespace slipway --values $$values \
	    | kubeconform -strict -summary -schema-location '$(SCHEMAS)/{{ .Group }}/{{ .ResourceKind }}_{{ .ResourceAPIVersion }}.json'; \
	  else echo "  kubeconform is not installed: skipped"; fi; \
	done
