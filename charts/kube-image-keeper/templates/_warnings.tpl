{{/*
What the values ask for and do not get, or should know about; one line each. Argument of the first: root.
*/}}

{{/* Keys of kube-image-keeper v1 that mean nothing any more, or not yet, and why. */}}
{{- define "kuik.obsoleteValues" -}}
minio: an object store for the cache comes later; cache nodes keep data themselves
docker-registry-ui: there is no such page; see kubectl get cachedimages
psp: PodSecurityPolicy is gone from Kubernetes; pods are restricted as Pod Security asks
proxy.kubeApiRateLimits: the proxies do not talk to the API server
proxy.hostIp: the proxies listen on 127.0.0.1 and [::1]
registry.garbageCollection: nothing stops for it, and there is no job
registry.httpSecret: there are no upload sessions to sign
registry.persistence.s3: object stores come later; cache nodes keep data themselves
registry.persistence.s3ExistingSecret: object stores come later
registry.persistence.disableS3Redirections: nothing is redirected
registry.persistence.gcs: object stores come later; cache nodes keep data themselves
registry.persistence.gcsExistingSecret: object stores come later
registry.persistence.azure: object stores come later; cache nodes keep data themselves
registry.persistence.azureExistingSecret: object stores come later
controllers.webhook.createCertificateIssuer: certificates are made by the controllers; see certificates.mode
controllers.webhook.certificateIssuerRef: certificates are made by the controllers; see certificates.issuerRef
controllers.readinessProbe.httpGet: the handler is the chart's; only timing is taken
controllers.livenessProbe.httpGet: the handler is the chart's; only timing is taken
proxy.readinessProbe.httpGet: the handler is the chart's; only timing is taken
proxy.livenessProbe.httpGet: the handler is the chart's; only timing is taken
registry.readinessProbe.httpGet: the handler is the chart's; only timing is taken
registry.livenessProbe.httpGet: the handler is the chart's; only timing is taken
{{- end -}}

{{/* A value by its dotted path, as JSON; empty where there is none or it asks for nothing. Arguments: values, path. */}}
{{- define "kuik.valueAt" -}}
{{- $value := .values -}}
{{- range splitList "." .path -}}
{{- $value = ternary (get ($value | default dict) .) nil (kindIs "map" $value) -}}
{{- end -}}
{{- if $value }}{{ toJson $value }}{{ end -}}
{{- end -}}

{{- define "kuik.warnings" -}}
{{- $root := . -}}
{{- range include "kuik.obsoleteValues" . | splitList "\n" -}}
{{- $parts := regexSplit ": " . 2 -}}
{{- if include "kuik.valueAt" (dict "values" $root.Values "path" (first $parts)) }}
- {{ first $parts }}: not used: {{ last $parts }}
{{- end -}}
{{- end -}}
{{- range $component := list "registry" "proxy" "webhook" "controllers" -}}
{{- $image := (index $root.Values $component).image -}}
{{- if include "kuik.isV1Image" $image }}
- {{ $component }}.image: not used: {{ $image.repository | default "tag" }}{{ with $image.tag }} {{ . }}{{ end }} is an image of v1
{{- end -}}
{{- end -}}
{{- if eq (toString .Values.proxy.hostNetwork) "false" }}
- proxy.hostNetwork: not used: the proxies are on the host's network always; their metrics are on port {{ include "kuik.metricsPort" . }}
{{- end -}}
{{- if has "ReadWriteMany" (ternary (list .Values.registry.persistence.accessModes) .Values.registry.persistence.accessModes (kindIs "string" .Values.registry.persistence.accessModes)) }}
- registry.persistence.accessModes: ReadWriteMany is not needed: each cache node has a volume of its own
{{- end -}}
{{- range .Values.registry.env }}{{ if hasPrefix "REGISTRY_" .name }}
- registry.env: not used: {{ .name }} was for v1's registry
{{- end }}{{ end -}}
{{- include "kuik.safetyWarnings" . -}}
{{- end -}}

{{- define "kuik.safetyWarnings" -}}
{{- $replicas := int .Values.registry.replicas -}}
{{- if not (include "kuik.persistent" .) }}
- registry.persistence: the cache nodes keep data in emptyDirs, which are lost with their pods; an upgrade leaves these pods as they are, delete all of them at once to replace them
{{- else if and (eq (toString .Values.registry.persistence.enabled) "true") (not .Values.registry.persistence.storageClass) (include "kuik.clusterAnswers" .) (not (include "kuik.defaultStorageClass" .)) }}
- registry.persistence: the cluster has no default StorageClass that makes volumes, so the cache nodes may wait for ever
{{- end -}}
{{- if eq $replicas 1 }}
- registry.replicas: one cache node is no high availability
{{- else if eq (mod $replicas 2) 0 }}
- registry.replicas: an even number survives no more failures than one less
{{- end -}}
{{- range $component := list "registry" "webhook" "controllers" -}}
{{- $values := index $.Values $component -}}
{{- if and $values.pdb.create (ne (toString $values.pdb.minAvailable) "") (not (contains "%" (toString $values.pdb.minAvailable))) (ge (int $values.pdb.minAvailable) (int $values.replicas)) }}
- {{ $component }}.pdb.minAvailable: no pod may go, so nodes cannot be drained
{{- end -}}
{{- end -}}
{{- if not .Values.rbac.pullSecrets }}
- rbac.pullSecrets: private images are not cached
{{- end -}}
{{- if .Values.webhook.hostNetwork }}
- webhook.hostNetwork: namespace {{ .Release.Namespace }} cannot be restricted by Pod Security, and the webhook takes ports 9443 and 8080 of its nodes
{{- end -}}
{{- if not (include "kuik.proxyIsApart" .) }}
- proxy.namespaceOverride: the proxies need the host's network, so namespace {{ .Release.Namespace }} cannot be restricted by Pod Security
{{- end -}}
{{- end -}}
