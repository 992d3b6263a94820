{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- define "moorfs.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "moorfs.pullSecrets" -}}
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end -}}

{{- /* The agents' and the controller's configuration file. What is empty is left to their defaults. */ -}}
{{- define "moorfs.config" -}}
{{- $pods := dict
      "namespace" .Values.mountPods.namespace
      "image" (include "moorfs.image" .)
      "imagePullPolicy" .Values.image.pullPolicy
      "priorityClassName" .Values.mountPods.priorityClass.name -}}
{{- with .Values.imagePullSecrets }}{{ $_ := set $pods "imagePullSecrets" . }}{{ end -}}
{{- with .Values.mountPods.resources }}{{ $_ := set $pods "resources" . }}{{ end -}}
{{- with .Values.mountPods.tolerations }}{{ $_ := set $pods "tolerations" . }}{{ end -}}
{{- with .Values.mountPods.labels }}{{ $_ := set $pods "labels" . }}{{ end -}}
{{- with .Values.mountPods.annotations }}{{ $_ := set $pods "annotations" . }}{{ end -}}
{{- with .Values.mountPods.deleteDelaySeconds }}{{ $_ := set $pods "deleteDelaySeconds" (int .) }}{{ end -}}
{{- if ne (int .Values.mountPods.runAsUser) 65532 }}{{ $_ := set $pods "runAsUser" (int .Values.mountPods.runAsUser) }}{{ end -}}
{{- $config := dict "fileSystems" .Values.fileSystems "mountPods" $pods -}}
{{- with .Values.defaultFileSystem }}{{ $_ := set $config "defaultFileSystem" . }}{{ end -}}
{{ toPrettyJson $config }}
{{- end -}}

{{- /* The same for installing and for looking whether it is. */ -}}
{{- define "moorfs.installArgs" -}}
- --host-root=/host
{{- with .Values.installer.pluginDir }}
- --plugin-dir={{ . }}
{{- end }}
{{- if .Values.installer.full }}
- --full
{{- end }}
{{- end -}}
