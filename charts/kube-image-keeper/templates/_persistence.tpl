{{/*
Where cache nodes keep data. `auto` must never leave a pod Pending for ever: a volume is claimed only where a default
StorageClass makes volumes, or has enough of them. What is installed is kept, as the claims of a StatefulSet cannot
change, and so is what an uninstalled release left.
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
{{- else if lookup "v1" "PersistentVolumeClaim" .Release.Namespace (printf "kuik-data-%s-registry-0" (include "kuik.fullname" .)) -}}true
{{- else if and $persistence.storageClass (ne $persistence.storageClass "-") -}}true
{{- else if not $persistence.storageClass -}}
{{- include "kuik.defaultStorageClass" . -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* True if there is a default StorageClass that has volumes for all cache nodes, or makes them. */}}
{{- define "kuik.defaultStorageClass" -}}
{{- $found := "" -}}
{{- range (lookup "storage.k8s.io/v1" "StorageClass" "" "").items -}}
{{- $annotations := .metadata.annotations | default dict -}}
{{- $default := or (eq (get $annotations "storageclass.kubernetes.io/is-default-class") "true") (eq (get $annotations "storageclass.beta.kubernetes.io/is-default-class") "true") -}}
{{- if and $default (eq .provisioner "kubernetes.io/no-provisioner") -}}
{{- if ge (int (include "kuik.availableVolumes" .metadata.name)) (int $.Values.registry.replicas) -}}{{- $found = "true" -}}{{- end -}}
{{- else if $default -}}
{{- $found = "true" -}}
{{- end -}}
{{- end -}}
{{- $found -}}
{{- end -}}

{{/* How many volumes of a StorageClass wait for a claim. Argument: its name. */}}
{{- define "kuik.availableVolumes" -}}
{{- $available := 0 -}}
{{- range (lookup "v1" "PersistentVolume" "" "").items -}}
{{- if and (eq (.spec.storageClassName | default "") $) (eq ((.status).phase | default "") "Available") -}}{{- $available = add1 $available -}}{{- end -}}
{{- end -}}
{{- $available -}}
{{- end -}}

{{/* Bytes of a quantity such as 20Gi. */}}
{{- define "kuik.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "K" 1000 "ki" 1024 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- mulf (float64 (trimSuffix $unit .)) (float64 (get $units $unit)) | floor | printf "%.0f" -}}
{{- end -}}

{{/*
The most a cache node may keep; empty if only its volume bounds it. The kubelet evicts a pod whose emptyDir is larger than
its limit, and copies make all of them grow alike: a tenth is left for what is written between two looks. A volume need
not be as small as its claim, and what is beside it on the same disk is not ours to fill.
*/}}
{{- define "kuik.quotaBytes" -}}
{{- $persistence := .Values.registry.persistence -}}
{{- $share := ternary 1.0 0.9 (not (empty (include "kuik.persistent" .))) -}}
{{- if eq $persistence.quota "auto" -}}
{{- mulf (float64 (include "kuik.bytes" $persistence.size)) $share | floor | printf "%.0f" -}}
{{- else if ne $persistence.quota "none" -}}
{{- include "kuik.bytes" $persistence.quota -}}
{{- end -}}
{{- end -}}

{{/* The claim, as installed or as the values have it. */}}
{{- define "kuik.volumeClaimTemplates" -}}
{{- $persistence := .Values.registry.persistence -}}
{{- $existing := include "kuik.existingRegistry" . | fromJson -}}
{{- if and $existing $existing.spec.volumeClaimTemplates -}}
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
