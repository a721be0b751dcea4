{{/* Names and labels. Names are those of kube-image-keeper v1, so that what points at them goes on working. */}}

{{- define "kuik.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* 43 characters leave room for the longest suffix, and for the hash that a StatefulSet puts in a label. */}}
{{- define "kuik.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 43 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 43 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 43 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "kuik.chart" -}}
{{- printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "kuik.proxyNamespace" -}}
{{- default (printf "%s-proxy" .Release.Namespace | trunc 63 | trimSuffix "-") .Values.proxy.namespaceOverride -}}
{{- end -}}

{{- define "kuik.proxyIsApart" -}}
{{- if ne (include "kuik.proxyNamespace" .) .Release.Namespace }}true{{ end -}}
{{- end -}}

{{- define "kuik.namespaceOf" -}}
{{- if eq .component "proxy" }}{{ include "kuik.proxyNamespace" .root }}{{ else }}{{ .root.Release.Namespace }}{{ end -}}
{{- end -}}

{{/* Namespaces whose pods are never touched; kuik's own are among them, so that nothing of it waits for itself. */}}
{{- define "kuik.ignoredNamespaces" -}}
{{- concat (list "kube-system" .Release.Namespace (include "kuik.proxyNamespace" .)) .Values.controllers.webhook.ignoredNamespaces | uniq | toJson -}}
{{- end -}}

{{- define "kuik.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kuik.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of an object. Arguments: root, component (may be empty). */}}
{{- define "kuik.labels" -}}
helm.sh/chart: {{ include "kuik.chart" .root }}
app.kubernetes.io/name: {{ include "kuik.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: kube-image-keeper
{{- with .root.Values.global.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The service account of a component. Arguments: root, component. */}}
{{- define "kuik.serviceAccount" -}}
{{- $account := include "kuik.serviceAccountValues" . | fromYaml -}}
{{- if $account.create -}}
{{- default (printf "%s-%s" (include "kuik.fullname" .root) .component) $account.name -}}
{{- else -}}
{{- default "default" $account.name -}}
{{- end -}}
{{- end -}}

{{/* v1 had the controllers' account at the top. */}}
{{- define "kuik.serviceAccountValues" -}}
{{- if eq .component "controllers" -}}
{{- toYaml .root.Values.serviceAccount -}}
{{- else -}}
{{- toYaml (index .root.Values .component).serviceAccount -}}
{{- end -}}
{{- end -}}

{{- define "kuik.kubeVersion" -}}
{{- default .Capabilities.KubeVersion.Version .Values.kubeVersion -}}
{{- end -}}

{{/* True where the chart is rendered for a cluster that answers, not by `helm template`. */}}
{{- define "kuik.clusterAnswers" -}}
{{- if lookup "v1" "Namespace" "" "default" }}true{{ end -}}
{{- end -}}

{{/* `auto`, true or false, as text: empty is false. Arguments: root, value. */}}
{{- define "kuik.ifClusterAnswers" -}}
{{- if eq (toString .value) "auto" }}{{ include "kuik.clusterAnswers" .root }}{{ else if eq (toString .value) "true" }}true{{ end -}}
{{- end -}}

{{/* The Secret with a component's certificate. Arguments: root, component. */}}
{{- define "kuik.tlsSecret" -}}
{{- $own := index .root.Values.certificates.existingSecrets .component -}}
{{- if and $own (eq .root.Values.certificates.mode "existing") -}}
{{- $own -}}
{{- else -}}
{{- printf "%s-%s-tls" (include "kuik.fullname" .root) .component -}}
{{- end -}}
{{- end -}}
