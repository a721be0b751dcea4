{{/* What the pods of all components have in common. Arguments of each: root, component. */}}

{{- define "kuik.podMetadata" -}}
{{- $values := index .root.Values .component -}}
annotations:
  checksum/config: {{ include "kuik.checksum" . }}
  {{- with $values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
labels:
  {{- /* No version of the chart here: a new chart alone is no reason to restart anything. */}}
  {{- include "kuik.selectorLabels" . | nindent 2 }}
  app.kubernetes.io/part-of: kube-image-keeper
  {{- with .root.Values.global.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  kube-image-keeper.enix.io/image-caching-policy: ignore
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "kuik.scheduling" -}}
{{- $values := index .root.Values .component -}}
nodeSelector:
  {{- $global := ternary dict .root.Values.global.nodeSelector (eq .component "proxy") }}
  {{- merge dict $values.nodeSelector $global (dict "kubernetes.io/os" "linux") | toYaml | nindent 2 }}
{{- with concat $values.tolerations .root.Values.global.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $values.affinity }}
affinity:
  {{- toYaml $values.affinity | nindent 2 }}
{{- else if ne .component "proxy" }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "kuik.selectorLabels" . | nindent 14 }}
{{- end }}
{{- if $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml $values.topologySpreadConstraints | nindent 2 }}
{{- else if eq .component "registry" }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "kuik.selectorLabels" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "kuik.podSecurityContext" -}}
{{- $restricted := dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532
  "fsGroupChangePolicy" "OnRootMismatch" "seccompProfile" (dict "type" "RuntimeDefault") -}}
securityContext:
  {{- mergeOverwrite $restricted (index .root.Values .component).podSecurityContext | toYaml | nindent 2 }}
{{- end -}}

{{- define "kuik.securityContext" -}}
{{- $restricted := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true
  "capabilities" (dict "drop" (list "ALL")) -}}
securityContext:
  {{- mergeOverwrite $restricted (index .root.Values .component).securityContext | toYaml | nindent 2 }}
{{- end -}}

{{- define "kuik.initContainers" -}}
{{- with (index .root.Values .component).initContainers -}}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "kuik.env" -}}
{{- $values := index .root.Values .component -}}
env:
  - name: KUIK_LOG
    value: {{ include "kuik.log" $values.verbosity | quote }}
  - name: KUIK_LOG_FORMAT
    value: {{ .root.Values.logFormat | quote }}
  - name: KUIK_NODE_NAME
    valueFrom:
      fieldRef:
        fieldPath: {{ ternary "spec.nodeName" "metadata.name" (eq .component "proxy") }}
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: POD_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  {{- if and .root.Values.rootCertificateAuthorities.keys (has .component (list "registry" "proxy")) }}
  - name: SSL_CERT_DIR
    value: /etc/ssl/certs:/etc/kuik/authorities
  {{- end }}
  {{- if eq .component "registry" }}
  {{- with include "kuik.inheritedProxyEnv" .root | trim }}{{ . | nindent 2 }}{{ end }}
  {{- end }}
  {{- with $values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* In v1 the controllers fetched images, so a way out of the network stood there; now the cache nodes do. */}}
{{- define "kuik.inheritedProxyEnv" -}}
{{- $own := list -}}
{{- range .Values.registry.env }}{{ $own = append $own (lower .name) }}{{ end -}}
{{- range .Values.controllers.env -}}
{{- $name := lower .name -}}
{{- if and (has $name (list "http_proxy" "https_proxy" "no_proxy" "all_proxy")) (not (has $name $own)) }}
{{ toYaml (list .) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A probe: the chart's handler, and timing from the values. Arguments: handler, timing, defaults. */}}
{{- define "kuik.probe" -}}
{{- $timing := omit .timing "httpGet" "exec" "tcpSocket" "grpc" -}}
{{- mergeOverwrite (dict) .handler .defaults $timing | toYaml -}}
{{- end -}}

{{- define "kuik.httpProbes" -}}
{{- $values := index .root.Values .component -}}
{{- $live := dict "httpGet" (dict "path" "/livez" "port" "admin") -}}
{{- $ready := dict "httpGet" (dict "path" "/readyz" "port" "admin") -}}
startupProbe:
  {{- include "kuik.probe" (dict "handler" $live "timing" dict "defaults" (dict "periodSeconds" 2 "timeoutSeconds" 2 "failureThreshold" 150)) | nindent 2 }}
livenessProbe:
  {{- include "kuik.probe" (dict "handler" $live "timing" $values.livenessProbe "defaults" (dict "periodSeconds" 10 "timeoutSeconds" 5 "failureThreshold" 6)) | nindent 2 }}
readinessProbe:
  {{- include "kuik.probe" (dict "handler" $ready "timing" $values.readinessProbe "defaults" (dict "periodSeconds" 2 "timeoutSeconds" 2 "failureThreshold" 2)) | nindent 2 }}
{{- end -}}

{{- define "kuik.args" -}}
{{- with (index .root.Values .component).extraArgs }}
{{- toYaml . }}
{{- end }}
{{- end -}}

{{- define "kuik.resources" -}}
resources:
  {{- toYaml (index .root.Values .component).resources | nindent 2 }}
{{- end -}}

{{/* Mounts and volumes: configuration, certificate, authorities, and what the values add. */}}
{{- define "kuik.volumeMounts" -}}
- name: config
  mountPath: /etc/kuik/config
  readOnly: true
{{- if include "kuik.mountsCertificate" . }}
- name: tls
  mountPath: /etc/kuik/tls
  readOnly: true
{{- end }}
{{- if and .root.Values.rootCertificateAuthorities.keys (has .component (list "registry" "proxy")) }}
- name: authorities
  mountPath: /etc/kuik/authorities
  readOnly: true
{{- end }}
{{- with (index .root.Values .component).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kuik.volumes" -}}
- name: config
  configMap:
    name: {{ include "kuik.fullname" .root }}-config
    items:
      {{- range include "kuik.configKeys" .component | splitList " " }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- if include "kuik.mountsCertificate" . }}
- name: tls
  secret:
    secretName: {{ include "kuik.tlsSecret" . }}
    defaultMode: 288
{{- end }}
{{- if and .root.Values.rootCertificateAuthorities.keys (has .component (list "registry" "proxy")) }}
- name: authorities
  secret:
    secretName: {{ .root.Values.rootCertificateAuthorities.secretName }}
    optional: true
    items:
      {{- range .root.Values.rootCertificateAuthorities.keys }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- end }}
{{- with (index .root.Values .component).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The controllers make the certificates, and with them their own; they mount one only where others make it. */}}
{{- define "kuik.mountsCertificate" -}}
{{- if or (ne .component "controllers") (ne .root.Values.certificates.mode "self") }}true{{ end -}}
{{- end -}}

{{- define "kuik.configKeys" -}}
{{- index (dict "registry" "cache-node.toml" "proxy" "proxy.toml" "webhook" "webhook.toml policy.toml" "controllers" "controller.toml") . -}}
{{- end -}}
