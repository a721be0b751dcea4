{{/* The programs' configuration files. A string in JSON is one in TOML too. */}}

{{- define "kuik.registryHost" -}}
{{- $name := include "kuik.fullname" .root -}}
{{- printf "%s-registry-%d.%s-registry-peers.%s.svc" $name (int .ordinal) $name .root.Release.Namespace -}}
{{- end -}}

{{- define "kuik.tlsFiles" -}}
{ ca = "/etc/kuik/tls/ca.crt", cert = "/etc/kuik/tls/tls.crt", key = "/etc/kuik/tls/tls.key" }
{{- end -}}

{{- define "kuik.grpcNodes" -}}
nodes = [
{{- range until (int .Values.registry.replicas) }}
  { ordinal = {{ . }}, grpc = "https://{{ include "kuik.registryHost" (dict "root" $ "ordinal" .) }}:5001" },
{{- end }}
]
{{- end -}}

{{- define "kuik.config.upstream" -}}
{{- $hosts := dict -}}
{{- range .Values.insecureRegistries -}}
{{- $host := regexReplaceAll "^https?://" . "" | trimSuffix "/" -}}
{{- $rule := dict "insecure" true -}}
{{- if hasPrefix "http://" . }}{{ $_ := set $rule "url" (printf "http://%s" $host) }}{{ end -}}
{{- $_ := set $hosts $host $rule -}}
{{- end -}}
{{- $hosts = mergeOverwrite $hosts (deepCopy .Values.upstream.hosts) -}}
{{- range $host, $rule := $hosts }}
[upstream.hosts.{{ toJson $host }}]
{{- range $key, $value := $rule }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{ end -}}
{{- end -}}

{{- define "kuik.config.cache-node" -}}
data_dir = "/var/lib/kuik"
copies = {{ int .Values.registry.copies }}
allow_genesis = true
tls = {{ include "kuik.tlsFiles" . }}
peers = [
{{- range until (int .Values.registry.replicas) }}
  {{- $host := include "kuik.registryHost" (dict "root" $ "ordinal" .) }}
  { ordinal = {{ . }}, grpc = "https://{{ $host }}:5001", registry = "https://{{ $host }}:5000", admin = "http://{{ $host }}:8080" },
{{- end }}
]

[listen]
registry = "{{ .Values.listenAddress }}:5000"
grpc = "{{ .Values.listenAddress }}:5001"
admin = "{{ .Values.listenAddress }}:8080"

[access]
enforce = true
keys_dir = "/etc/kuik/kek"
{{- with include "kuik.quotaBytes" . }}

[storage]
quota_bytes = {{ . }}
{{- end }}

[freshness]
default = {{ toJson .Values.freshness.default }}
{{- range .Values.freshness.rules }}

[[freshness.rules]]
pattern = {{ toJson .pattern }}
policy = {{ toJson .policy }}
{{- end }}
{{ include "kuik.config.upstream" . }}
{{- end -}}

{{- define "kuik.config.proxy" -}}
{{- $port := int .Values.proxy.hostPort -}}
listen = ["127.0.0.1:{{ $port }}", "[::1]:{{ $port }}"]
admin = "{{ .Values.listenAddress }}:{{ include "kuik.metricsPort" . }}"
reuse_port = true
check_socket = "/run/kuik/proxy.sock"
limits = { drain_seconds = {{ sub (int .Values.proxy.terminationGracePeriodSeconds) 15 | max 1 }} }
tls = {{ include "kuik.tlsFiles" . }}
nodes = [
{{- range until (int .Values.registry.replicas) }}
  { ordinal = {{ . }}, registry = "https://{{ include "kuik.registryHost" (dict "root" $ "ordinal" .) }}:5000" },
{{- end }}
]
{{ include "kuik.config.upstream" . }}
{{- end -}}

{{/* In v1's values the port is one of the pod, unless they ask for the host's network; then it is meant. */}}
{{- define "kuik.metricsPort" -}}
{{- if eq (toString .Values.proxy.hostNetwork) "false" }}7440{{ else }}{{ int .Values.proxy.metricsPort }}{{ end -}}
{{- end -}}

{{- define "kuik.config.webhook" -}}
listen = "{{ .Values.listenAddress }}:9443"
admin = "{{ .Values.listenAddress }}:8080"
namespace = {{ toJson .Release.Namespace }}
proxy_port = {{ int .Values.proxy.hostPort }}
policy_file = "/etc/kuik/config/policy.toml"
serving = { cert = "/etc/kuik/tls/tls.crt", key = "/etc/kuik/tls/tls.key" }
tls = {{ include "kuik.tlsFiles" . }}
proxy = { namespace = {{ include "kuik.proxyNamespace" . | toJson }}, daemonset = "{{ include "kuik.fullname" . }}-proxy" }
{{ include "kuik.grpcNodes" . }}
{{- end -}}

{{- define "kuik.config.policy" -}}
{{- with .Values.controllers.webhook -}}
ignored_namespaces = {{ include "kuik.ignoredNamespaces" $ }}
ignored_images = {{ toJson .ignoredImages }}
accepted_images = {{ toJson .acceptedImages }}
ignore_pull_policy_always = {{ .ignorePullPolicyAlways }}
{{- with .skipOwners }}
skip_owners = {{ toJson . }}
{{- end }}
{{- with .skipLabels }}
skip_labels = {{ toJson . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "kuik.config.controller" -}}
admin = "{{ .Values.listenAddress }}:8080"
namespace = {{ toJson .Release.Namespace }}
fullname = {{ include "kuik.fullname" . | toJson }}
cluster_domain = {{ toJson .Values.clusterDomain }}
proxy_namespace = {{ include "kuik.proxyNamespace" . | toJson }}
proxy_port = {{ int .Values.proxy.hostPort }}
expiry_delay_days = {{ int .Values.cachedImagesExpiryDelay }}
architectures = {{ toJson .Values.architectures }}
max_concurrent_reconciles = {{ int .Values.controllers.maxConcurrentCachedImageReconciles }}
ignored_namespaces = {{ include "kuik.ignoredNamespaces" . }}
restore = { enabled = {{ .Values.controllers.restoreImages }} }
{{ include "kuik.grpcNodes" . }}

[certificates]
{{- if eq .Values.certificates.mode "self" }}
mode = "self"
{{- else }}
mode = "provided"
tls = {{ include "kuik.tlsFiles" . }}
{{- end }}
{{- end -}}

{{/* Pods restart when their file changes; the webhook reads its policy again by itself. Arguments: root, component. */}}
{{- define "kuik.checksum" -}}
{{- $file := index (dict "registry" "cache-node" "proxy" "proxy" "webhook" "webhook" "controllers" "controller") .component -}}
{{- include (printf "kuik.config.%s" $file) .root | sha256sum | trunc 32 -}}
{{- end -}}
