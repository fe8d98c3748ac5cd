{{- define "postmapd.name" -}}
{{- if contains "postmapd" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-postmapd" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "postmapd.selector" -}}
app.kubernetes.io/name: postmapd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "postmapd.labels" -}}
{{ include "postmapd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "postmapd.secret" -}}
{{ .Values.existingSecret | default (include "postmapd.name" .) }}
{{- end }}

{{- define "postmapd.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end }}
