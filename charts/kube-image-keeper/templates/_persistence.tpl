{{/*
Where cache nodes keep data. `auto` must never leave a pod Pending for ever: a volume is claimed only where a default
StorageClass makes volumes. What is installed is kept, as the claims of a StatefulSet cannot change.
*/}}

{{- define "kuik.existingRegistry" -}}
{{- lookup "apps/v1" "StatefulSet" .Release.Namespace (printf "%s-registry" (include "kuik.fullname" .)) | toJson -}}
{{- end -}}

{{/* True if each cache node gets a volume of its own. */}}
{{- define "kuik.persistent" -}}
{{- $persistence := .Values.registry.persistence -}}
{{- if eq (toString $persistence.enabled) "true" -}}true
{{- else if eq (toString $persistence.enabled) "auto" -}}
{{- $existing := include "kuik.existingRegistry" . | fromJson -}}
{{- if $existing -}}
{{- if $existing.spec.volumeClaimTemplates }}true{{ end -}}
{{- else if and $persistence.storageClass (ne $persistence.storageClass "-") -}}true
{{- else if not $persistence.storageClass -}}
{{- include "kuik.defaultStorageClass" . -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* True if there is a default StorageClass that makes volumes by itself. */}}
{{- define "kuik.defaultStorageClass" -}}
{{- $found := "" -}}
{{- range (lookup "storage.k8s.io/v1" "StorageClass" "" "").items -}}
{{- $annotations := .metadata.annotations | default dict -}}
{{- $default := or (eq (get $annotations "storageclass.kubernetes.io/is-default-class") "true") (eq (get $annotations "storageclass.beta.kubernetes.io/is-default-class") "true") -}}
{{- if and $default (ne .provisioner "kubernetes.io/no-provisioner") -}}{{- $found = "true" -}}{{- end -}}
{{- end -}}
{{- $found -}}
{{- end -}}

{{/* The claim, as installed or as the values have it. */}}
{{- define "kuik.volumeClaimTemplates" -}}
{{- $persistence := .Values.registry.persistence -}}
{{- $existing := include "kuik.existingRegistry" . | fromJson -}}
{{- if and $existing (eq (toString $persistence.enabled) "auto") -}}
{{- range $existing.spec.volumeClaimTemplates }}
- metadata:
    name: {{ .metadata.name }}
    {{- with .metadata.annotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    {{- toYaml (pick .spec "accessModes" "resources" "storageClassName" "volumeMode") | nindent 4 }}
{{- end }}
{{- else }}
- metadata:
    name: kuik-data
    {{- with $persistence.annotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    accessModes:
      {{- ternary (list $persistence.accessModes) $persistence.accessModes (kindIs "string" $persistence.accessModes) | toYaml | nindent 6 }}
    {{- with $persistence.storageClass }}
    storageClassName: {{ ternary "" . (eq . "-") | quote }}
    {{- end }}
    resources:
      requests:
        storage: {{ $persistence.size }}
{{- end }}
{{- end -}}
