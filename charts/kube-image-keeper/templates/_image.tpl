{{/* Which image a component runs: its own, or the chart's. What names an image of kube-image-keeper v1 is not taken. */}}

{{- define "kuik.image" -}}
{{- $own := (index .root.Values .component).image -}}
{{- $all := .root.Values.image -}}
{{- if include "kuik.isV1Image" $own -}}{{- $own = dict -}}{{- end -}}
{{- $repository := $own.repository | default $all.repository -}}
{{- $registry := .root.Values.global.imageRegistry | default $own.registry -}}
{{- if not $registry -}}
{{- /* A repository that begins with a host, as v1's values had it, is complete. */ -}}
{{- $first := splitList "/" $repository | first -}}
{{- $complete := and (contains "/" $repository) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) -}}
{{- $registry = ternary "" $all.registry $complete -}}
{{- end -}}
{{- $tag := $own.tag | default $all.tag -}}
{{- $digest := $own.digest | default $all.digest -}}
{{- if not (or $tag $digest) -}}{{- $tag = .root.Chart.AppVersion -}}{{- end -}}
{{- with $registry }}{{ . }}/{{ end }}{{ $repository }}
{{- with $tag }}:{{ . }}{{ end }}
{{- with $digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "kuik.pullPolicy" -}}
{{- (index .root.Values .component).image.pullPolicy | default .root.Values.image.pullPolicy -}}
{{- end -}}

{{/* True for the images in v1's values: distribution's, v1's own, and v1's tags. Argument: an image block. */}}
{{- define "kuik.isV1Image" -}}
{{- if regexMatch "^((docker.io/)?(library/)?registry|((ghcr|quay|docker)\\.io/)?enix/kube-image-keeper)$" (toString .repository) -}}true
{{- else if and (not .repository) (regexMatch "^v?(1\\.([0-9]|1[0-4])(\\.[0-9]+)?(-.*)?|2\\.8(\\..*)?)$" (toString .tag)) -}}true
{{- end -}}
{{- end -}}

{{/* Pull secrets of a component, with the global ones. Arguments: root, component. */}}
{{- define "kuik.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range concat .root.Values.global.imagePullSecrets (index .root.Values .component).imagePullSecrets -}}
{{- $secrets = append $secrets (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- with $secrets | uniq -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* KUIK_LOG from a v1 verbosity: zap's names for the controllers, klog's numbers for the proxy. */}}
{{- define "kuik.log" -}}
{{- $verbosity := toString . | lower -}}
{{- if regexMatch "^[0-9]+$" $verbosity -}}
{{- if ge (int $verbosity) 6 }}trace{{ else if ge (int $verbosity) 4 }}debug{{ else }}info{{ end -}}
{{- else -}}
{{- $verbosity -}}
{{- end -}}
{{- end -}}
